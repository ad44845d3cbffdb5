"""moeret behind the interfaces of other libraries; one file per library."""
