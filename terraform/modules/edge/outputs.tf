output "arn" {
  description = "ARN of the distribution, for edge_arns of the module bucket."
  value       = aws_cloudfront_distribution.this.arn
}

output "domain_name" {
  description = "The distribution's own host name; host_names are aliases of it in the DNS."
  value       = aws_cloudfront_distribution.this.domain_name
}

output "url" {
  description = "What clients are given: the public URL of a mirror."
  value       = "https://${length(var.host_names) > 0 ? var.host_names[0] : aws_cloudfront_distribution.this.domain_name}"
}
