# Terraform's own state in a bucket of an S3-compatible service, locked by conditional writes: what the mirror's storage has
# to do anyhow (`mirrorwitness store-check`). No table, no second service. Copy this block into a configuration of yours.
#
#   export AWS_ENDPOINT_URL_S3=https://s3.example AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…
#   terraform init -backend-config=bucket=terraform-state -backend-config=key=community-mirror.tfstate
#
# At Amazon leave out the skip_ lines and use_path_style.

terraform {
  required_version = ">= 1.11"

  backend "s3" {
    region       = "us-east-1"
    use_lockfile = true

    use_path_style              = true
    skip_credentials_validation = true
    skip_metadata_api_check     = true
    skip_region_validation      = true
    skip_requesting_account_id  = true
    skip_s3_checksum            = true
  }
}

variable "pause_seconds" {
  description = "How long an apply takes here, so that two of them meet."
  type        = number
  default     = 0

  validation {
    condition     = var.pause_seconds >= 0 && var.pause_seconds <= 60 && floor(var.pause_seconds) == var.pause_seconds
    error_message = "A whole number of seconds, 0 to 60."
  }
}

resource "terraform_data" "example" {
  input = "written under the lock"

  provisioner "local-exec" {
    command = "sleep ${var.pause_seconds}"
  }
}
