"""The clients against a coordinator."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import fleetune
import pytest
from fleetune import Categorical, Client, FleetuneError, Float, Int, Study, StudyState, Trial, TrialState

SPACE = {"x": Float(-5.0, 5.0), "n": Int(1, 64, log=True), "kind": Categorical(["a", None, True, 2.5])}
# Longer than any of it takes on a busy machine.
DEADLINE_S = 300


def loss(params):
    return (params["x"] - 1.0) ** 2 + params["n"] / 64


def test_a_search_from_creation_to_the_best(server):
    with Client(server.address) as client:
        study = client.create_study("s", SPACE, trials=12, seed=3)
        assert (study.name, study.state) == ("s", StudyState.ACTIVE)
        with pytest.raises(FleetuneError) as taken:
            client.create_study("s", SPACE)
        assert taken.value.reason == "STUDY_EXISTS"
        assert client.create_study("s", SPACE, exist_ok=True).name == "s"

        queued = client.enqueue("s", {"x": 0.5, "kind": None})
        assert (queued.state, queued.params["x"]) == (TrialState.WAITING, 0.5)
        seen = []
        watcher = threading.Thread(target=lambda: seen.extend(client.watch("s")), daemon=True)
        watcher.start()
        first = client.ask("s")
        assert (first.number, first.params["x"], first.params["kind"]) == (queued.number, 0.5, None)
        assert client.report("s", first, 1, 3.0) is False
        told = client.tell("s", first, loss(first.params))
        assert (told.state, told.steps) == (TrialState.COMPLETE, {1: 3.0})
        failed = client.ask("s")
        assert client.tell("s", failed, message="broken").state == TrialState.FAIL
        for trial in client.ask_many("s", 4):
            client.tell("s", trial, loss(trial.params))
        leased = client.ask("s", lease_s=60, holder="test")
        with pytest.raises(FleetuneError) as held:
            client.tell("s", leased.number, 1.0)
        assert held.value.reason == "TRIAL_LEASED"
        client.tell("s", leased, loss(leased.params))
        with pytest.raises(FleetuneError) as finished:
            while True:
                trial = client.ask("s")
                client.tell("s", trial, loss(trial.params))
        assert finished.value.reason == "STUDY_FINISHED"

        watcher.join(DEADLINE_S)
        assert not watcher.is_alive(), "the stream ends with the study"
        ended = {event.number for event in seen if isinstance(event, Trial) and event.state == TrialState.COMPLETE}
        assert len(ended) == 11
        assert [event for event in seen if isinstance(event, Study)][-1].state == StudyState.FINISHED

        client.create_study("warm", SPACE, seed=4, warm_start=["s"])
        assert client.ask("warm").params == client.best("s")[0].params
        trials = client.trials("s")
        assert [trial.number for trial in trials] == list(range(12))
        best = client.best("s", 2)
        assert best[0].values[0] == min(trial.values[0] for trial in trials if trial.values)
        assert client.study("s").counts[TrialState.COMPLETE] == 11
        client.delete_study("s")
        with pytest.raises(FleetuneError) as gone:
            client.study("s")
        assert gone.value.reason == "STUDY_NOT_FOUND"


def test_a_restart_loses_nothing_and_does_nothing_twice(server):
    with Client(server.address) as client:
        client.create_study("s", SPACE)
        for round in range(5):
            trial = client.ask("s")
            server.kill()
            restart = threading.Timer(0.3, server.start)
            restart.start()
            client.tell("s", trial, loss(trial.params))
            restart.join()
        assert [trial.state for trial in client.trials("s")] == [TrialState.COMPLETE] * 5


def test_a_server_that_stays_away_is_an_error(server):
    with Client(server.address, retry_for_s=0.5) as client:
        server.kill()
        with pytest.raises(FleetuneError, match="does not answer") as away:
            client.study("s")
        assert away.value.reason == ""
        server.start()


def test_the_same_with_asyncio(server):
    async def search():
        async with fleetune.AsyncClient(server.address) as client:
            await client.create_study("s", SPACE, trials=8)

            async def watch():
                return [event async for event in client.watch("s")]

            watching = asyncio.create_task(watch())

            async def work():
                while True:
                    try:
                        trial = await client.ask("s")
                    except FleetuneError as error:
                        assert error.reason == "STUDY_FINISHED"
                        return
                    await client.tell("s", trial, loss(trial.params))

            await asyncio.gather(*[work() for _ in range(3)])
            seen = await asyncio.wait_for(watching, DEADLINE_S)
            assert seen[-1].state == StudyState.FINISHED
            return await client.best("s")

    assert len(asyncio.run(search())) == 5


def test_a_token_does_not_travel_in_the_clear():
    with pytest.raises(ValueError, match="in the clear"):
        Client("example.org:7700", token="secret")
    Client("127.0.0.1:7700", token="secret").close()


def test_the_example_runs_on_two_processes(server):
    example = Path(__file__).parent.parent / "examples" / "two_processes.py"
    output = subprocess.run([sys.executable, example, server.address], check=True, capture_output=True, timeout=DEADLINE_S)
    assert output.stdout.startswith(b"best of 40 trials: 0.")
