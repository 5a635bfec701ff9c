"""optuna-dashboard on fleetune, seen through a browser: Chromium, without a window.

FLEETUNE_ADDRESS is the HOST:PORT of a server, or of something that stands for it.
"""

import math
import os
import shutil
import socketserver
import threading
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import fleetune
import optuna
import optuna_dashboard
import pytest
from optuna.samplers import RandomSampler
from playwright.sync_api import expect, sync_playwright

from conftest import connect

# Longer than any page takes on a busy machine.
DEADLINE_MS = 120_000
CHROMIUM = ["chromium", "chromium-browser", "google-chrome"]
TRIALS = 20


class Threads(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def dashboard():
    """The address of a dashboard that reads fleetune through a client of its own."""
    server = make_server("127.0.0.1", 0, optuna_dashboard.wsgi(connect()), Threads, Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page():
    """A page in a browser. Afterwards nothing may have gone wrong in it."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert found, "there is no Chromium; `scripts/setup.sh browser` installs it"
    wrong = []
    with sync_playwright() as playwright:
        # The memory that browsers share is small in containers.
        browser = playwright.chromium.launch(executable_path=found, args=["--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": 1600, "height": 2400})
        page.set_default_timeout(DEADLINE_MS)
        expect.set_options(timeout=DEADLINE_MS)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("response", lambda answer: wrong.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
        # Whoever leaves a page gives up what it was still asking for.
        gave_up = lambda request: request.failure == "net::ERR_ABORTED"
        page.on("requestfailed", lambda request: None if gave_up(request) else wrong.append(f"failed: {request.url}"))
        yield page
        browser.close()
    assert wrong == []


def objective(trial):
    x = trial.suggest_float("x", -5.0, 5.0)
    n = trial.suggest_int("n", 1, 64, log=True)
    kind = trial.suggest_categorical("kind", ["a", None, 2.5])
    for step in range(5):
        trial.report(math.nan if (trial.number, step) == (3, 2) else x * step, step)
    if trial.number == 4:
        raise optuna.TrialPruned()
    if trial.number == 5:
        raise ValueError("broken")
    return x**2 + n + (kind == "a")


@pytest.fixture
def study(storage):
    study = optuna.create_study(storage=storage, study_name="searched", sampler=RandomSampler(seed=1))
    study.set_user_attr("data", "of yesterday")
    study.enqueue_trial({"x": 1.0})
    study.optimize(objective, n_trials=TRIALS, catch=ValueError)
    return study


def listed(page, dashboard, name):
    """Opens a study from the list."""
    page.goto(dashboard)
    page.get_by_text(name).first.click()
    page.wait_for_url("**/dashboard/studies/*")
    return page.url


def test_a_study_is_listed_and_shown(study, dashboard, page):
    listed(page, dashboard, "searched")
    complete = len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
    assert complete == TRIALS - 2
    expect(page.locator("#graph-timeline .point")).to_have_count(TRIALS)
    expect(page.locator("#graph-intermediate-values .lines path.js-line").first).to_be_visible()
    expect(page.locator("#graph-hyperparameter-importances .point")).to_have_count(3)
    expect(page.locator("#plot-history .point").first).to_be_visible()
    expect(page.get_by_text(f"Best Trial (number={study.best_trial.number})")).to_be_visible()
    expect(page.get_by_text(str(study.best_value)).first).to_be_visible()
    expect(page.get_by_text("of yesterday").first).to_be_visible()


def test_every_page_of_a_study_is_shown(study, dashboard, page):
    url = listed(page, dashboard, "searched")
    page.goto(f"{url}/analytics")
    for plot in ["#plot-slice .point", "#graph-contour .point", "#graph-rank .point", "#plot-edf-0 .js-line"]:
        expect(page.locator(plot).first).to_be_visible()
    page.goto(f"{url}/trials")
    for trial in study.trials:
        expect(page.get_by_text(f"Trial {trial.number}", exact=True).first).to_be_attached()
    for state in ["Complete", "Pruned", "Fail"]:
        expect(page.get_by_text(state, exact=True).first).to_be_attached()


def test_a_note_is_kept(study, dashboard, page):
    url = listed(page, dashboard, "searched")
    text = "# Seen\n" + "long " * 1_000
    note = {"version": 1, "body": text}
    number = url.rsplit("/", 1)[1]
    assert page.request.put(f"{dashboard}/api/studies/{number}/note", data=note).status == 204
    page.goto(f"{url}/note")
    expect(page.get_by_text("Seen", exact=True).first).to_be_visible()


def test_a_search_for_several_objectives_has_its_front(storage, dashboard, page):
    study = optuna.create_study(
        storage=storage, study_name="two", directions=["minimize", "maximize"], sampler=RandomSampler(seed=1)
    )

    def both(trial):
        x = trial.suggest_float("x", 0.0, 2.0)
        return x, 1 - (x - 1) ** 2

    study.optimize(both, n_trials=TRIALS)
    listed(page, dashboard, "two")
    expect(page.locator("#graph-pareto-front .point").first).to_be_visible()
    expect(page.get_by_role("link").filter(has_text="Objective Values =")).to_have_count(len(study.best_trials))


def test_a_study_of_fleetune_is_shown(storage, dashboard, page):
    with fleetune.Client(os.environ["FLEETUNE_ADDRESS"]) as client:
        space = {"x": fleetune.Float(-5, 5), "n": fleetune.Int(1, 64, log=True), "kind": fleetune.Categorical(["a", "b"])}
        client.create_study("ours", space, sampler="random")
        for _ in range(TRIALS):
            trial = client.ask("ours")
            client.report("ours", trial, 1, trial.params["x"])
            client.tell("ours", trial, trial.params["x"] ** 2 + trial.params["n"])
        best = client.best("ours", 1)[0]
        client.enqueue("ours", {"x": 1.0})
    url = listed(page, dashboard, "ours")
    expect(page.locator("#plot-history .point")).to_have_count(TRIALS)
    expect(page.locator("#graph-hyperparameter-importances .point")).to_have_count(3)
    expect(page.get_by_text(f"Best Trial (number={best.number})")).to_be_visible()
    page.goto(f"{url}/trials")
    expect(page.get_by_text("Waiting", exact=True).first).to_be_attached()
