output "path_rule" {
  description = "The function that finds the object which a path means."
  value       = replace(file("${path.module}/path_rule.js"), "{{kind}}", var.kind)
}

output "classes" {
  description = "How long paths are cached: name, pattern, seconds; the first that fits. The last one fits all."
  value       = local.class_list
}

output "ages" {
  description = "The functions that tell clients how old an answer may become, by class."
  value = {
    for class in local.class_list : class.name => replace(file("${path.module}/cache_control.js"), "{{cache_control}}", (
      class.seconds == local.year ? "public, max-age=${class.seconds}, immutable" : "public, max-age=${class.seconds}, stale-if-error=86400"
    ))...
  }
}

output "errors" {
  description = "Seconds for which each error is kept."
  value       = { 403 = 10, 404 = 10, 500 = 0, 502 = 0, 503 = 0, 504 = 0 }
}
