"""What a team would write by hand: FastAPI, Pydantic, asyncpg, Postgres; the answer leaves after the commit."""

import json
import os
import uuid
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Literal

import asyncpg
from fastapi import FastAPI, Request
from pydantic import BaseModel, Field, ValidationError


class Click(BaseModel):
    customer: Annotated[int, Field(ge=0, strict=True)]
    kind: Literal["view", "search", "add", "buy"]
    session: str
    url: str
    price: Annotated[float, Field(ge=0)]


class Event(BaseModel):
    id: uuid.UUID
    source: str
    type: Literal["click"]
    time: datetime
    data: Click


TABLES = """
CREATE TABLE stored (id uuid, source text, type text, time timestamptz, customer bigint, kind text, session text,
                     url text, price double precision, received timestamptz DEFAULT now(), UNIQUE (source, id));
CREATE TABLE spoiled (body jsonb, errors jsonb, received timestamptz DEFAULT now());
"""
COLUMNS = "INSERT INTO stored (id, source, type, time, customer, kind, session, url, price) "
INSERT_ONE = COLUMNS + "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING"
INSERT_MANY = (
    COLUMNS
    + "SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::text[], "
    + "$7::text[], $8::text[], $9::double precision[]) ON CONFLICT DO NOTHING"
)
INSERT_SPOILED = "INSERT INTO spoiled (body, errors) VALUES ($1, $2)"


@asynccontextmanager
async def life(app):
    app.state.pool = await asyncpg.create_pool(os.environ["DATABASE"], min_size=8, max_size=16)
    async with app.state.pool.acquire() as connection:
        await connection.execute(TABLES)
    yield
    await app.state.pool.close()


app = FastAPI(lifespan=life)


def check(event):
    try:
        it = Event.model_validate(event)
    except ValidationError as error:
        return None, (json.dumps(event), error.json(include_url=False))
    data = it.data
    return (it.id, it.source, it.type, it.time, data.customer, data.kind, data.session, data.url, data.price), None


@app.post("/v1/events")
async def take(request: Request):
    body = await request.json()
    good, bad = [], []
    for event in body if isinstance(body, list) else [body]:
        row, why = check(event)
        if row:
            good.append(row)
        else:
            bad.append(why)
    async with request.app.state.pool.acquire() as connection:
        if len(good) + len(bad) == 1:
            await (connection.execute(INSERT_ONE, *good[0]) if good else connection.execute(INSERT_SPOILED, *bad[0]))
        else:
            async with connection.transaction():
                if good:
                    await connection.execute(INSERT_MANY, *map(list, zip(*good, strict=True)))
                if bad:
                    await connection.executemany(INSERT_SPOILED, bad)
    return {"taken": len(good) + len(bad)}
