"""The heartbeat's thread: how it is stopped."""

from quarterdeck.engine.heartbeat import Heartbeat
from quarterdeck.telemetry.metrics import Metrics
from tests.support.factories import new_worker


def unreachable() -> Heartbeat:
    return Heartbeat(
        dsn="postgresql://nobody@127.0.0.1:1/nothing",
        identity=new_worker,
        lease=15.0,
        running=lambda: 0,
        on_beat=lambda _: None,
        on_lost=lambda _: None,
        meter=Metrics("0"),
    )


async def test_a_stop_right_after_the_start_ends_the_thread():
    for _ in range(20):
        heartbeat = unreachable()
        heartbeat.start()
        await heartbeat.stop(5.0)
        heartbeat._thread.join(5.0)
        assert not heartbeat._thread.is_alive()
