variable "image" {
  description = "The pgswivel image, with its tag or digest."
  type        = string
}

variable "upstream" {
  description = "Where Postgres is, as --upstream takes it. User and password don't belong in it."
  type        = string

  validation {
    condition     = !can(regex("@", var.upstream))
    error_message = "The user and the password come from the secret."
  }
}

variable "secret_arn" {
  description = "The secret in Secrets Manager that holds the database's user and password."
  type        = string
}

variable "local_password_arn" {
  description = "The SSM parameter or secret with the password between the application and pgswivel: long, random, never changed."
  type        = string
}

variable "role" {
  description = "The name that the application logs in as."
  type        = string
  default     = "app"
}

variable "database" {
  description = "The database that the application asks for."
  type        = string
}

variable "stop_timeout" {
  description = "Seconds between SIGTERM and SIGKILL; longer than `drain`, which is 25 s."
  type        = number
  default     = 60

  validation {
    condition     = var.stop_timeout > 25 && var.stop_timeout <= 120
    error_message = "More than `drain` (25 s), and no more than ECS allows (120 s)."
  }
}

variable "log_group" {
  description = "A CloudWatch log group; null: no log configuration."
  type        = string
  default     = null
}

variable "region" {
  description = "The log group's region."
  type        = string
  default     = null
}
