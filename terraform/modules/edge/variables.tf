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

variable "bucket_domain_name" {
  description = "Host name of the bucket in its region (domain_name of the module bucket)."
  type        = string
}

variable "price_class" {
  description = "Where the edge is: PriceClass_100, PriceClass_200 or PriceClass_All."
  type        = string
  default     = "PriceClass_All"

  validation {
    condition     = contains(["PriceClass_100", "PriceClass_200", "PriceClass_All"], var.price_class)
    error_message = "The price class is PriceClass_100, PriceClass_200 or PriceClass_All."
  }
}

variable "web_acl_arn" {
  description = "ARN of a web ACL that limits rates, if any. The content is public and read-only; see the README."
  type        = string
  default     = null
}

variable "log_bucket_domain_name" {
  description = "Host name of a bucket for access logs, if any. Addresses of clients are personal data: keep them short."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything that can have some."
  type        = map(string)
  default     = {}
}
