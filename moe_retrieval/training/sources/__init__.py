"""Where pairs come from: files of citations, XML, judged collections, the hub, services of the web."""
