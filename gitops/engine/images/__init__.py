"""Images on this host: the content store, their layers as directories, pull, load, tags, removal."""
