const { Pool } = require('pg')
const { once } = require('node:events')

// RECIPE

const order = async (client, amount) =>
  (await client.query('INSERT INTO orders (amount) VALUES ($1) RETURNING amount', [amount])).rows[0].amount

async function main() {
  await order(pool, 1)
  console.log('ready')
  await once(process.stdin, 'data')
  const known = await pool.connect()
  const added = await pool.connect()
  console.log(String((await order(known, 2)) + (await order(added, 3))))
  process.exit(0)
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
