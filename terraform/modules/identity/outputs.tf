output "arns" {
  description = "ARNs of the roles, by role."
  value       = { for role in keys(var.roles) : role => aws_iam_role.this[role].arn }
}

output "service_accounts" {
  description = "Patches for the overlays of each namespace: which role each service account takes on, YAML."
  value = {
    for namespace in distinct([for each in var.roles : each.namespace]) : namespace => join("---\n", [
      for role, each in var.roles : yamlencode({
        apiVersion = "v1"
        kind       = "ServiceAccount"
        metadata = {
          name        = role
          annotations = { "eks.amazonaws.com/role-arn" = aws_iam_role.this[role].arn }
        }
      }) if each.namespace == namespace
    ])
  }
}
