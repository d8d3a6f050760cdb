# The container definitions, without a provider: for a task definition that exists already, and for `terraform console`.
# The module above this one adds the roles and the task definition.

terraform {
  required_version = ">= 1.5"
}

locals {
  log = var.log_group == null ? null : {
    logDriver = "awslogs"
    options = {
      awslogs-group         = var.log_group
      awslogs-region        = var.region
      awslogs-stream-prefix = "pgswivel"
    }
  }

  container = {
    name    = "pgswivel"
    image   = var.image
    command = ["run"]
    # When it dies, the application has no database: the task is replaced as a whole.
    essential              = true
    user                   = "65532:65532"
    readonlyRootFilesystem = true
    linuxParameters        = { capabilities = { drop = ["ALL"] } }

    environment = [
      { name = "PGSWIVEL_UPSTREAM", value = var.upstream },
      # An ARN, so that no region has to be known besides.
      { name = "PGSWIVEL_SECRET", value = "aws-secretsmanager:${var.secret_arn}" },
    ]
    # Read by ECS with the execution role; the task role never sees it.
    secrets = [{ name = "PGSWIVEL_PASSWORD", valueFrom = var.local_password_arn }]

    # The program itself: the image has neither a shell nor curl. Only this makes `dependsOn HEALTHY` possible; the
    # image's own HEALTHCHECK is ignored by ECS.
    healthCheck = {
      command     = ["CMD", "/pgswivel", "health", "--started"]
      interval    = 5
      timeout     = 5
      retries     = 6
      startPeriod = 300
    }

    # With dependsOn, ECS stops the application first and this after it. Two minutes is the most that ECS allows.
    stopTimeout = var.stop_timeout

    # Two sockets a client; ECS's default of 1024 is 500 clients.
    ulimits          = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
    logConfiguration = local.log
  }

  # What the application's own container needs; libpq's names, which most drivers read.
  application = {
    dependsOn = [{ containerName = "pgswivel", condition = "HEALTHY" }]
    environment = [
      { name = "PGHOST", value = "127.0.0.1" },
      { name = "PGPORT", value = "6432" },
      { name = "PGUSER", value = var.role },
      { name = "PGDATABASE", value = var.database },
      # It never leaves the task's loopback.
      { name = "PGSSLMODE", value = "disable" },
    ]
    secrets = [{ name = "PGPASSWORD", valueFrom = var.local_password_arn }]
  }
}
