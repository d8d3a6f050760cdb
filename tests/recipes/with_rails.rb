require 'active_record'
require 'erb'
require 'yaml'

DATABASE_YML = <<'YAML'
# RECIPE
YAML

class Order < ActiveRecord::Base
end

ActiveRecord::Base.establish_connection(YAML.safe_load(ERB.new(DATABASE_YML).result)['production'])
Order.create!(amount: 1)
puts 'ready'
$stdout.flush
$stdin.gets
# The main thread keeps its connection; another thread has to open one now.
new = Thread.new { Order.connection_pool.with_connection { Order.create!(amount: 3).amount } }
known = Order.create!(amount: 2).amount
puts known + new.value
