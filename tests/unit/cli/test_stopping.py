"""Signals and the watchdog, in processes of their own."""

import signal
import subprocess
import sys
from time import monotonic

import pytest

BEGIN = "import asyncio, os, signal, sys, time; from quarterdeck.cli.stopping import Stopping; stopping = Stopping()\n"


def start(program):
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(program):
    process = start(program)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_anything_runs_ends_the_process_with_0(number):
    process = start("print('here', flush=True); time.sleep(60)")
    assert process.stdout.readline() == "here\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


COUNT = """
async def main():
    counts = asyncio.Queue()
    stopping.attach(60, counts.put_nowait)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
        print(await counts.get(), flush=True)
with asyncio.Runner(loop_factory=FACTORY) as runner:
    runner.run(main())
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.01)
print("survived")
"""


@pytest.mark.parametrize("factory", ["asyncio.new_event_loop", "__import__('uvloop').new_event_loop"])
def test_each_signal_is_told_to_the_loop_and_one_after_it_does_no_harm(factory):
    code, out, err = run(COUNT.replace("FACTORY", factory))
    assert (code, out.split()) == (0, ["1", "2", "3", "survived"]), err


@pytest.mark.parametrize("factory", ["asyncio.new_event_loop", "__import__('uvloop').new_event_loop"])
def test_a_handler_that_blocks_the_loop_cannot_put_off_the_end(factory):
    program = f"""
async def main():
    stopping.attach(0.2, lambda count: None, margin=0.3)
    print("here", flush=True)
    time.sleep(60)
with asyncio.Runner(loop_factory={factory}) as runner:
    runner.run(main())
"""
    process = start(program)
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGTERM)
    began = monotonic()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "service.forced_to_exit" in err
    assert monotonic() - began < 10


def test_threads_that_hang_are_not_waited_for_at_the_end():
    program = """
import threading
import quarterdeck.cli.stopping as module
module.EXIT_MARGIN = 0.1
threading.Thread(target=time.sleep, args=(60,)).start()
stopping.finish(4)
"""
    assert run(program)[0] == 4


def test_an_end_in_time_needs_no_force():
    assert run("stopping.begin(5); stopping.finish(5); sys.exit(3)") == (3, "", "")


def test_the_earlier_of_two_deadlines_holds_with_the_later_exit_code():
    program = """
import quarterdeck.cli.stopping as module
watchdog = module.Watchdog()
watchdog.arm(0.2, 1)
watchdog.arm(60, 2)
time.sleep(60)
"""
    assert run(program)[0] == 2


ASKED = """
import threading
async def main():
    counts = asyncio.Queue()
    stopping.attach(60, counts.put_nowait)
    ORDERS
    print(await counts.get(), await counts.get(), flush=True)
early = EARLY
if early:
    stopping.ask(early)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("early", "orders", "told"),
    [
        ("1", "stopping.ask(2)", "1 2"),
        ("0", "threading.Thread(target=stopping.ask, args=(1,)).start(); os.kill(os.getpid(), signal.SIGTERM)", "1 1"),
        ("1", "os.kill(os.getpid(), signal.SIGTERM)", "1 1"),
    ],
    ids=["before it is attached", "with a signal", "before, and with a signal"],
)
def test_who_asks_is_told_to_the_loop_and_a_signal_beside_it_hurries_nothing(early, orders, told):
    code, out, err = run(ASKED.replace("ORDERS", orders).replace("EARLY", early))
    assert (code, out.strip()) == (0, told), err
