variable "name" {
  description = "The task family, and the beginning of the names of its roles."
  type        = string

  validation {
    condition     = length(var.name) <= 27
    error_message = "At most 27 characters: the roles' names begin with it, and AWS allows 38 for a beginning."
  }
}

variable "pgswivel_image" {
  description = "The pgswivel image, with its tag or digest."
  type        = string
}

variable "application" {
  description = "The application's container definition, without its way to the database, which is added here."
  # Whatever ECS takes in a container definition.
  type = any
}

variable "upstream" {
  description = "Where Postgres is, as --upstream takes it."
  type        = string
}

variable "database" {
  description = "The database that the application asks for."
  type        = string
}

variable "secret_arn" {
  description = "The secret that holds the database's user and password; `master_user_secret[0].secret_arn` of an RDS instance with `manage_master_user_password`."
  type        = string
}

variable "secret_kms_key_arn" {
  description = "The secret's key, if it is a customer's; null for aws/secretsmanager, which needs no permission of its own."
  type        = string
  default     = null
}

variable "local_password_arn" {
  description = "The SSM parameter with the password between the application and pgswivel."
  type        = string
}

variable "local_password_kms_key_arn" {
  description = "That parameter's key, if it is a customer's; null for aws/ssm."
  type        = string
  default     = null
}

variable "cpu" {
  type    = number
  default = 512
}

variable "memory" {
  type    = number
  default = 1024
}

variable "log_group" {
  description = "A CloudWatch log group for pgswivel."
  type        = string
}
