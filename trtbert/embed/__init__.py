"""Files of texts -> the same rows with a package's answers, on Ray: one machine or a cluster.

A run is a list of shards, made before any work and always the same for the same inputs: rows of one input file that become one output
file. Ray Data hands them to the workers, retries those of a worker that died, and streams back what came of each; the rows themselves
never pass through it. Its own readers and writers would not do: they cut files as memory and the number of CPUs suggest, guess types
("007" becomes 7), and name output files by chance, so that neither the order nor what a killed run left could be told.
"""
