output "arn" {
  description = "ARN of the key."
  value       = aws_kms_key.this.arn
}

output "address" {
  description = "What mirrorwitness takes with --key."
  value       = "awskms:${aws_kms_key.this.arn}${module.decisions.address_options}"
}
