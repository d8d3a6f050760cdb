"""Sessions of a Python driver in the crowd.

    sessions.py asyncpg|psycopg DSN calm|troubled|fresh|unscathed SESSION…

Obeys `hush`, `work` and `leave` on standard input, and tells of each step, receipt and failure on standard output.
"""

import asyncio
import json
import sys

DRIVER, DSN, MOOD, SESSIONS = sys.argv[1], sys.argv[2], sys.argv[3], [int(n) for n in sys.argv[4:]]
INSERT = "INSERT INTO writes VALUES ($1, $2) RETURNING number"
FACTS = ("SELECT concat_ws(' ', current_setting('crowd.member'), current_setting('work_mem'), "
         "current_setting('DateStyle'), current_user)")
PATIENCE_S = 40


def tell(*words):
    print(*words, flush=True)


class Wrong(Exception):
    pass


def check(what, got, expected):
    if got != expected:
        raise Wrong(f"{what}: got {got!r}, expected {expected!r}")


class Failed(Exception):
    """The server said no, and the session goes on."""

    def __init__(self, code, message):
        super().__init__(f"{code} {message}")
        self.code, self.message = code, message


class Session:
    """What both drivers have in common."""

    def __init__(self, number):
        self.session, self.last, self.fates = number, 0, {}
        self.fresh, self.tried = None, None

    def numbers(self, count):
        self.last += count
        return list(range(self.last - count + 1, self.last + 1))

    def note(self, numbers, fate):
        for number in numbers:
            self.fates[number] = fate
            tell("receipt", json.dumps([self.session, number, fate]))

    async def told(self, numbers, work):
        """Work that commits by itself, or not at all."""
        try:
            answer = await self.asked(work)
        except Failed as failed:
            self.note(numbers, "unknown" if failed.code == "08007" else "rolled_back")
            raise
        except Exception:
            self.note(numbers, "unknown")
            raise
        self.note(numbers, "acknowledged")
        return answer

    async def asked(self, work):
        try:
            return await work
        except Exception as error:
            code = getattr(error, "sqlstate", None)
            if code is None or self.is_closed():
                raise
            raise Failed(code, str(error).replace("\n", " ")) from error

    async def freshen(self, value):
        """Sets something, which is to be there whatever comes."""
        await self.is_fresh()
        self.tried = str(value)
        await self.asked(self.run(f"SET crowd.fresh = '{value}'"))
        self.fresh, self.tried = self.tried, None

    async def is_fresh(self):
        there = await self.asked(self.value("SELECT nullif(current_setting('crowd.fresh', true), '')"))
        if there != self.fresh and (self.tried is None or there != self.tried):
            raise Wrong(f"what it has set a moment before: got {there!r}, expected {self.fresh!r}")
        self.fresh, self.tried = there, None

    async def is_itself(self):
        own = f"member {self.session} {2000 + self.session}kB SQL, DMY orders_owner"
        check("what the session holds", await self.asked(self.value(FACTS)), own)
        after = self.last - 30
        there = await self.asked(self.value(
            f"SELECT array_agg(number ORDER BY number) FROM writes "
            f"WHERE session = {self.session} AND number > {after}")) or []
        is_there = {"acknowledged": lambda n: True, "rolled_back": lambda n: False, "unknown": lambda n: n in there}
        expected = [n for n in range(max(after, 0) + 1, self.last + 1) if n in self.fates and is_there[self.fates[n]](n)]
        check("what the session wrote", there, expected)


class Asyncpg(Session):
    @classmethod
    async def sit(cls, number):
        import asyncpg
        self = cls(number)
        settings = {"application_name": f"crowd {number}", "work_mem": f"{2000 + number}kB"}
        self.conn = await asyncpg.connect(DSN, ssl=False, server_settings=settings, timeout=PATIENCE_S)
        return self

    def is_closed(self):
        return self.conn.is_closed()

    async def run(self, sql):
        await self.conn.execute(sql)

    async def value(self, sql):
        return await self.conn.fetchval(sql)

    async def step(self):
        [number] = self.numbers(1)
        check("a row", await self.told([number], self.conn.fetchval(INSERT, self.session, number)), number)
        if MOOD == "unscathed":
            return
        batch = self.numbers(5)
        await self.told(batch, self.conn.executemany(
            "INSERT INTO writes VALUES ($1, $2)", [(self.session, n) for n in batch]))
        batch = self.numbers(5)
        await self.told(batch, self.conn.copy_records_to_table("writes", records=[(self.session, n) for n in batch]))
        batch = self.numbers(1)
        await self.told(batch, self.in_transaction(batch))

    async def in_transaction(self, batch):
        # Its own transactions stay open for ever if a BEGIN fails.
        await self.conn.execute("BEGIN")
        await self.conn.execute("INSERT INTO writes VALUES ($1, $2)", self.session, batch[0])
        total = 0
        async for row in self.conn.cursor("SELECT generate_series(1, 500)", prefetch=50):
            total += row[0]
        check("a sum over a cursor", total, 125250)
        await self.conn.execute("COMMIT")

    async def recover(self):
        await self.conn.execute("ROLLBACK")


class Psycopg(Session):
    @classmethod
    async def sit(cls, number):
        import psycopg
        self = cls(number)
        self.conn = await psycopg.AsyncConnection.connect(
            DSN, sslmode="disable", autocommit=True, application_name=f"crowd {number}",
            options=f"-c work_mem={2000 + number}kB", connect_timeout=PATIENCE_S)
        return self

    def is_closed(self):
        return self.conn.closed

    async def run(self, sql):
        await self.conn.execute(sql)

    async def value(self, sql):
        return (await (await self.conn.execute(sql, prepare=False)).fetchone())[0]

    async def step(self):
        [number] = self.numbers(1)
        check("a row", await self.told([number], self.insert(number)), number)
        if MOOD == "unscathed":
            return
        batch = self.numbers(5)
        check("rows of a pipeline", await self.told(batch, self.pipeline(batch)), batch)
        batch = self.numbers(5)
        await self.told(batch, self.copy(batch))
        batch = self.numbers(1)
        await self.told(batch, self.in_transaction(batch))

    async def insert(self, number):
        sql = "INSERT INTO writes VALUES (%s, %s) RETURNING number"
        return (await (await self.conn.execute(sql, (self.session, number), prepare=True)).fetchone())[0]

    async def pipeline(self, batch):
        sql = "INSERT INTO writes VALUES (%s, %s) RETURNING number"
        async with self.conn.pipeline():
            cursors = [await self.conn.execute(sql, (self.session, n), prepare=n % 2 == 0) for n in batch]
        return [(await cursor.fetchone())[0] for cursor in cursors]

    async def copy(self, batch):
        async with self.conn.cursor().copy("COPY writes FROM STDIN") as copy:
            for n in batch:
                await copy.write_row((self.session, n))

    async def in_transaction(self, batch):
        async with self.conn.transaction():
            await self.insert(batch[0])
            async with self.conn.cursor(name="numbers") as cursor:
                await cursor.execute("SELECT generate_series(1, 500)")
                total = sum([row[0] async for row in cursor])
            check("a sum over a cursor", total, 125250)

    async def recover(self):
        await self.conn.rollback()


class Gate:
    def __init__(self):
        self.word, self.changed, self.hushed = "work", asyncio.Event(), 0

    async def listen(self):
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            self.say(line.decode().strip())
        self.say("leave")

    def say(self, word):
        self.word, self.hushed = word, 0
        self.changed.set()
        self.changed = asyncio.Event()

    async def hush(self):
        self.hushed += 1
        if self.hushed == len(SESSIONS):
            tell("hushed")
        await self.changed.wait()


async def attend(kind, number, gate):
    try:
        session = await kind.sit(number)
        await session.run(f"SET crowd.member = 'member {number}'; SET DateStyle = 'SQL, DMY'")
        steps = 0
        while gate.word != "leave":
            steps += 1
            if gate.word == "hush":
                await gate.hush()
                continue
            try:
                async with asyncio.timeout(PATIENCE_S):
                    if MOOD == "fresh":
                        await session.freshen(steps)
                    await session.step()
                    if MOOD == "fresh":
                        await session.is_fresh()
                    await session.is_itself()
            except Failed as failed:
                tell("failed", failed.code, failed.message)
                await session.recover()
            tell("worked", number)
            await asyncio.sleep(0.01 + number * 37 % 50 / 1000)
    except Exception as error:
        tell("trouble", " ".join(f"session {number}: {type(error).__name__}: {error}".split()))


async def main():
    gate = Gate()
    listening = asyncio.create_task(gate.listen())
    kind = {"asyncpg": Asyncpg, "psycopg": Psycopg}[DRIVER]
    await asyncio.gather(*(attend(kind, number, gate) for number in SESSIONS))
    listening.cancel()


asyncio.run(main())
