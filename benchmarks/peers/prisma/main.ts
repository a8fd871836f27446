// Calls Prisma from many callers at once, as the lines on standard input say, one window a line.
import { createInterface } from 'node:readline'
import { PrismaPg } from '@prisma/adapter-pg'
import { PrismaClient } from './generated/client.js'

type Window = {
  what: 'append' | 'read' | 'fill'
  callers: number
  games: number
  page: number
  warm: number
  seconds: number
}

const { pool, payload } = JSON.parse(process.argv[2])
const prisma = new PrismaClient({ adapter: new PrismaPg(pool) })
const patience = { maxWait: 60_000, timeout: 60_000 }

// What one writes without knowing of anything better: the last one's number and one more, again
// if somebody else took it.
async function append(gameId: string): Promise<void> {
  for (;;) {
    try {
      await prisma.$transaction(async (tx) => {
        const last = await tx.event.findFirst({
          where: { gameId },
          orderBy: { sequence: 'desc' },
          select: { sequence: true },
        })
        await tx.event.create({ data: { gameId, sequence: (last?.sequence ?? 0) + 1, payload } })
      }, patience)
      return
    } catch (error: any) {
      if (error?.code !== 'P2002' && error?.code !== 'P2034') throw error
    }
  }
}

async function read(gameId: string, after: number, page: number): Promise<void> {
  const found = await prisma.event.findMany({
    where: { gameId, sequence: { gt: after } },
    orderBy: { sequence: 'asc' },
    take: page,
  })
  if (found.length !== page) throw new Error(`${found.length} events instead of ${page}`)
}

async function fill(gameId: string, events: number): Promise<void> {
  const all = Array.from({ length: events }, (_, n) => ({ gameId, sequence: n + 1, payload }))
  for (let n = 0; n < events; n += 1_000) {
    await prisma.event.createMany({ data: all.slice(n, n + 1_000) })
  }
}

async function run(window: Window): Promise<object> {
  if (window.what === 'fill') {
    await fill('replay', window.page)
    return { ended: 0, p50: null, p99: null }
  }
  const counted = performance.now() + window.warm * 1_000
  const end = counted + window.seconds * 1_000
  const durations: number[] = []
  let ended = 0
  async function caller(number: number): Promise<void> {
    for (let turn = number * 37; ; turn += 1) {
      const begin = performance.now()
      if (window.what === 'append') await append(`game-${Math.floor(Math.random() * window.games)}`)
      else await read('replay', (turn * window.page) % window.games, window.page)
      const now = performance.now()
      if (now >= counted) {
        durations.push(now - begin)
        if (now > end) return
        ended += 1
      }
    }
  }
  await Promise.all(Array.from({ length: window.callers }, (_, number) => caller(number)))
  durations.sort((a, b) => a - b)
  const quantile = (share: number) =>
    durations[Math.min(durations.length - 1, Math.floor(durations.length * share))] / 1_000
  return { ended, p50: quantile(0.5), p99: quantile(0.99) }
}

await prisma.$queryRaw`SELECT 1`
console.log('{}')
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await run(JSON.parse(line))))
}
await prisma.$disconnect()
