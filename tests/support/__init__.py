"""What tests share: poses and networks made up for them, pipelines, browsers, servers of other people."""
