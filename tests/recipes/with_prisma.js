const { PrismaClient } = require('@prisma/client')
const { PrismaPg } = require('@prisma/adapter-pg')
const { once } = require('node:events')

// RECIPE

const order = (client, amount) => client.order.create({ data: { amount } })

async function main() {
  await order(prisma, 1)
  console.log('ready')
  await once(process.stdin, 'data')
  // The pool's connection is taken by the first, so that the other has to open one.
  let go
  const both = new Promise((resolve) => { go = resolve })
  const known = prisma.$transaction(async (first) => {
    const amount = (await order(first, 2)).amount
    await both
    return amount
  }, { timeout: 60_000 })
  const added = await prisma.$transaction(async (second) => (await order(second, 3)).amount)
  go()
  console.log(String((await known) + added))
  await prisma.$disconnect()
  process.exit(0)
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
