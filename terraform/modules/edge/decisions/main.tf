# What an edge does, without a provider: the path rule, how long each kind of path is cached, and what errors become.
#
# - What never changes is cached for a year: tarballs, proofs, attestations, summary nodes, tiles.
# - What changes is cached for as long as `mirrorwitness serve` says: documents 300 s, checkpoints and indexes 5 s.
# - A missing object is asked for again after 10 s: it may be there then. An error of the bucket is never kept, and what
#   is cached is served in its place where the service can do that (stale-if-error).
# - Patterns are of clients' paths, as the service matches them, before the path rule. A class below another one is only
#   asked where none above fits.

terraform {
  required_version = ">= 1.9"
}

locals {
  year = 31536000

  classes = {
    registry = [
      { name = "fixed", pattern = "*/-/*.tgz", seconds = local.year },
      { name = "fixed", pattern = "*.tlog-proof", seconds = local.year },
      { name = "fixed", pattern = "/-/summary/*", seconds = local.year },
      { name = "document", pattern = "*", seconds = var.document_seconds },
    ]
    log = [
      { name = "fixed", pattern = "/tile/*", seconds = local.year },
      { name = "head", pattern = "*", seconds = 5 },
    ]
    monitoring = [
      { name = "head", pattern = "*", seconds = 5 },
    ]
    logmirror = [
      { name = "fixed", pattern = "*/tile/*", seconds = local.year },
      { name = "head", pattern = "*", seconds = 5 },
    ]
  }
  class_list = local.classes[var.kind]
}
