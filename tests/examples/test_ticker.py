"""The ticker: whoever follows a symbol sees every price, and the job tells how far it is."""

import asyncio

import httpx


async def test_every_price_is_printed_as_it_is_drawn(serve, run):
    async with serve("examples.ticker.app:deck") as service:
        followers = [run(service, "examples.ticker.follow", "ACME", "GLOBEX") for _ in range(2)]
        for follower in followers:
            for symbol in ("ACME", "GLOBEX"):
                await follower.prints(lambda line, symbol=symbol: line == f"following {symbol}")
        async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=30) as http:

            async def walk(symbol, seed):
                args = {"symbol": symbol, "steps": 20, "pause": 0.01, "seed": seed}
                body = {"kind": "walk", "args": args}
                return (await http.post("/v1/jobs", json=body, headers={"Prefer": "wait=20"})).json()

            acme, globex = await asyncio.gather(walk("ACME", 7), walk("GLOBEX", 8))
            again = await walk("ACME", 7)
            refused = await http.post("/v1/jobs", json={"kind": "walk", "args": {"symbol": "a.b"}})
        assert refused.status_code == 422
        for job in (acme, globex, again):
            assert (job["state"], job["progress"]["fraction"]) == ("completed", 1)
        assert acme["result"] == again["result"], "a seed draws the same prices"
        assert acme["result"]["price"] != globex["result"]["price"]
        for follower in followers:

            def prices(symbol, printed=follower.printed):
                return [line.split()[1] for line in printed if line.startswith(f"{symbol} ")]

            await follower.printed_lines(2 + 40 + 20)
            assert prices("ACME")[:20] == prices("ACME")[20:]
            assert prices("ACME")[19] == f"{acme['result']['price']:.2f}"
            assert prices("GLOBEX")[19] == f"{globex['result']['price']:.2f}"
