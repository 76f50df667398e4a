output "name" {
  description = "Name of the bucket, once its policy is there: whoever writes earlier is not held to it."
  value       = aws_s3_bucket_policy.this.bucket
}

output "arn" {
  description = "ARN of the bucket."
  value       = module.decisions.arn
}

output "domain_name" {
  description = "Host name of the bucket in its region, for an edge in front of it."
  value       = aws_s3_bucket.this.bucket_regional_domain_name
}

output "public_prefixes" {
  description = "The public part."
  value       = module.decisions.public_prefixes
}
