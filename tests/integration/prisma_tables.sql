-- Tables as Prisma's schema engine (6.19) makes them of
--
--   model gameSession {                            model gameEvent {
--     id              String    @id @default(cuid())     id        String   @id @default(cuid())
--     gameId          String                             gameId    String
--     userId          String                             sequence  Int
--     tokenHash       String                             payload   Json
--     lastAckSequence Int       @default(0)              createdAt DateTime @default(now())
--     lastHeartbeat   DateTime  @default(now())        }
--     expiresAt       DateTime?
--     createdAt       DateTime  @default(now())
--
--     @@unique([gameId, userId])
--   }
CREATE TABLE "gameSession" (
    "id" TEXT NOT NULL,
    "gameId" TEXT NOT NULL,
    "userId" TEXT NOT NULL,
    "tokenHash" TEXT NOT NULL,
    "lastAckSequence" INTEGER NOT NULL DEFAULT 0,
    "lastHeartbeat" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "expiresAt" TIMESTAMP(3),
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "gameSession_pkey" PRIMARY KEY ("id")
);
CREATE TABLE "gameEvent" (
    "id" TEXT NOT NULL,
    "gameId" TEXT NOT NULL,
    "sequence" INTEGER NOT NULL,
    "payload" JSONB NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "gameEvent_pkey" PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "gameSession_gameId_userId_key" ON "gameSession"("gameId", "userId");
