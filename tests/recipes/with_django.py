import os
import threading

import django
from django.conf import settings

# RECIPE
settings.configure(DATABASES=DATABASES)
django.setup()

from django.db import connection, transaction  # noqa: E402


def order(amount):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders (amount) VALUES (%s) RETURNING amount", [amount])
        return cursor.fetchone()[0]


order(1)
print("ready", flush=True)
input()
# A worker that begins only now has to open its own connection.
amounts = []
worker = threading.Thread(target=lambda: amounts.append(order(3)))
worker.start()
known = order(2)
worker.join()
print(known + sum(amounts), flush=True)
