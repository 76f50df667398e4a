variable "kind" {
  description = <<-EOT
    What the bucket is to clients: registry (a mirror), log (a checksum database; look-ups need a process), monitoring
    (what a witness cosigned) or logmirror.
  EOT
  type        = string

  validation {
    condition     = contains(["registry", "log", "monitoring", "logmirror"], var.kind)
    error_message = "The kind is registry, log, monitoring or logmirror."
  }
}

variable "name" {
  description = "Name of what is made: letters, digits, - and _."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,50}$", var.name))
    error_message = "1 to 50 of A-Z, a-z, 0-9, - and _."
  }
}

variable "host_names" {
  description = "Names under which clients come; the certificate has them all. None: the distribution's own name."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for name in var.host_names : can(regex("^[a-z0-9-]+(\\.[a-z0-9-]+)+$", name))])
    error_message = "Each is a full host name in small letters."
  }
}

variable "certificate_arn" {
  description = "ARN of the certificate in us-east-1, where there are host_names."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:aws[a-z-]*:acm:us-east-1:[0-9]{12}:certificate/.+$", var.certificate_arn))
    error_message = "An edge takes certificates of the region us-east-1 alone."
  }
  validation {
    condition     = (var.certificate_arn != null) == (length(var.host_names) > 0)
    error_message = "Host names need a certificate, and a certificate needs host names."
  }
}

variable "document_seconds" {
  description = "Seconds for which documents of a registry are cached. A withdrawn version is installable for as long."
  type        = number
  default     = 300

  validation {
    condition     = var.document_seconds >= 0 && var.document_seconds <= 86400 && floor(var.document_seconds) == var.document_seconds
    error_message = "A whole number of seconds, 0 to 86400."
  }
}
