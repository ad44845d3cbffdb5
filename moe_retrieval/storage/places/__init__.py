"""Where a store lies, a folder or a bucket: its files, its marker, and who may write."""
