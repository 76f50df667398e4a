output "policies" {
  description = "What each role may do, JSON by role."
  value = {
    for role, statements in local.statements : role => "{\"Version\":\"2012-10-17\",\"Statement\":[${join(",", concat(
      statements,
      role == "witness" && length(var.signing_key_arns) > 0 ? [local.sign] : [],
    ))}]}"
  }
}

output "trust" {
  description = "Who may take each role on, JSON by role."
  value = {
    for role, each in var.roles : role => jsonencode({
      Version = "2012-10-17"
      Statement = [{
        Effect    = "Allow"
        Principal = { Federated = local.provider_arn }
        Action    = "sts:AssumeRoleWithWebIdentity"
        Condition = {
          StringEquals = {
            "${var.oidc_issuer}:aud" = "sts.amazonaws.com"
            "${var.oidc_issuer}:sub" = "system:serviceaccount:${each.namespace}:${role}"
          }
        }
      }]
    })
  }
}

output "names" {
  description = "Names of the roles, by role."
  value       = { for role in keys(var.roles) : role => "${var.name_prefix}${role}" }
}
