import os

from sqlalchemy import create_engine, text

# RECIPE


def order(session, amount):
    return session.execute(text("INSERT INTO orders (amount) VALUES (:amount) RETURNING amount"), {"amount": amount}).scalar_one()


with engine.begin() as session:
    order(session, 1)
print("ready", flush=True)
input()
# One from the pool, and one that has to be opened now.
with engine.begin() as known, engine.begin() as new:
    print(order(known, 2) + order(new, 3), flush=True)
