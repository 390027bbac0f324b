from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from driftline.detectors.documents.alerts import Alert, Window
from driftline.detectors.verdicts.decide import OutlierVerdict, SignalVerdict, Verdict
from driftline.streams.cli.main import run
from driftline.streams.cli.read import RECENT, alert_line, as_json, verdict_line
from driftline.streams.config.settings import Kafka
from driftline.streams.demo.embedded import EmbeddedBroker, embedded_broker
from driftline.streams.kafka.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DRIFTLINE = [sys.executable, "-m", "driftline.streams.cli.main"]


def alert(number: int, model: str = "churn") -> Alert:
    return Alert(
        state="firing",
        kind="drift",
        severity="warning",
        model=model,
        version="v3",
        signal="age",
        detector="marginal",
        value=0.3,
        threshold=0.005,
        n=500,
        window=Window(0, 60_000 * number),
        time_ms=60_000 * number,
        baseline="b",
        plan="p",
        summary=f"Window {number} moved.",
    ).identified()


def signal_verdict(p_value: float | None, *, drift: bool) -> SignalVerdict:
    return SignalVerdict(counts=[1], missing=0, nonfinite=0, other=0, unseen=0, p_value=p_value, drift=drift, scores={})


def verdict(**changes: object) -> Verdict:
    usual = Verdict(
        id="1",
        model="churn",
        version="v3",
        window=Window(0, 60_000),
        n=500,
        late=2,
        late_share=0.003984,
        final=True,
        baseline="b",
        plan="p",
        status="stable",
        drift=False,
        signals={"age": signal_verdict(0.5, drift=False)},
    )
    return msgspec.structs.replace(usual, **changes)


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with embedded_broker({"alerts": 1, "windows": 2}) as running:
        yield running


def publish(broker: EmbeddedBroker, topic: str, values: Sequence[bytes]) -> None:
    async def scenario() -> None:
        async with Outbox(Kafka(bootstrap_servers=broker.bootstrap_servers), topic) as outbox:
            for value in values:
                await outbox.send(value, b"key")

    asyncio.run(scenario())


def encoded(*documents: msgspec.Struct) -> list[bytes]:
    return [msgspec.json.encode(document) for document in documents]


def test_a_quiet_window_names_no_signal() -> None:
    assert verdict_line(verdict()) == "1970-01-01 00:00:00Z  churn v3          n=500      late=2     stable"


def test_a_drifting_window_names_the_strongest_signals_first() -> None:
    signals = {
        "weak": signal_verdict(0.004, drift=True),
        "still": signal_verdict(1e-30, drift=False),
        "strong": signal_verdict(1e-9, drift=True),
        "untested": signal_verdict(None, drift=True),
        "weaker": signal_verdict(0.02, drift=True),
    }
    outliers = OutlierVerdict(scored=500, outliers=40, drift=True)
    line = verdict_line(verdict(status="drift", drift=True, signals=signals, outliers=outliers, final=False))
    assert line.endswith("provisional, untested, strong p=1e-09, weak p=0.004, 1 more, outliers 40 of 500")


def test_a_name_from_the_topic_can_not_command_the_terminal() -> None:
    for line in (alert_line(alert(1, "red\x1b[31m\n")), verdict_line(verdict(model="red\x1b[31m\n"))):
        assert line.isprintable()


def test_json_is_the_document() -> None:
    assert msgspec.json.decode(as_json(alert(1)), type=Alert) == alert(1)
    assert msgspec.json.decode(as_json(verdict()), type=Verdict) == verdict()
    assert "\n" not in as_json(alert(1, "two\nlines"))


@pytest.mark.embedded
def test_alerts_are_printed_up_to_the_topics_end(broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str]) -> None:
    count = RECENT + 5
    publish(broker, "alerts", [*encoded(*(alert(number) for number in range(count))), b"noise"])
    here = ["--bootstrap-servers", broker.bootstrap_servers]
    assert run(["alerts", "--from-beginning", *here]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [alert_line(alert(number)) for number in range(count)]
    assert "passed over 1 records" in said.err
    assert run(["alerts", "--json", *here]) == 0
    said = capsys.readouterr()
    recent = [json.loads(line)["summary"] for line in said.out.splitlines()]
    assert recent == [f"Window {number} moved." for number in range(6, count)]  # the noise is one of the newest


@pytest.mark.embedded
def test_windows_are_printed_up_to_the_topics_end(broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str]) -> None:
    publish(broker, "windows", encoded(verdict(), verdict(n=7, status="insufficient", drift=None)))
    here = ["--bootstrap-servers", broker.bootstrap_servers]
    assert run(["windows", *here]) == 0
    assert [line.split()[6] for line in capsys.readouterr().out.splitlines()] == ["stable", "insufficient"]
    assert run(["windows", "--json", *here]) == 0
    assert [json.loads(line)["n"] for line in capsys.readouterr().out.splitlines()] == [500, 7]


@pytest.mark.embedded
def test_windows_are_summed_up_by_model_version_with_a_hint_where_they_are_too_short(
    broker: EmbeddedBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--bootstrap-servers", broker.bootstrap_servers]
    assert run(["windows", "--summary", *here]) == 0
    assert capsys.readouterr().out == "no verdict in topic 'windows' yet\n"

    def window(minute: int, n: int, status: str, *moved: str, version: str = "v3", final: bool = True) -> Verdict:
        signals = {name: signal_verdict(1e-9, drift=name in moved) for name in ("age", "plan")}
        place = Window(60_000 * minute, 60_000 * (minute + 1))
        return verdict(
            version=version,
            window=place,
            n=n,
            late=n // 10,
            status=status,
            drift=bool(moved),
            signals=signals,
            final=final,
        )

    drifting = [window(minute, 500, "drift", "age", *(["plan"] if minute % 2 else [])) for minute in range(5)]
    found = [
        window(0, 100, "stable", final=False),  # a provisional one, which the final one replaces
        *drifting,
        drifting[0],  # a repetition after a crash
        *(window(minute, 500, "stable") for minute in range(5, 10)),
        *(window(minute, 20, "insufficient", version="v4") for minute in range(3)),
    ]
    publish(broker, "windows", encoded(*found))
    assert run(["windows", "--summary", *here]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "churn v3",
        "  windows      10, from 1970-01-01 00:00:00Z to 1970-01-01 00:09:00Z",
        "  verdicts     drift 5, stable 5",
        "  records      5000, of which 500 late (10.0%)",
        "  drifted      5 x age",
        "  drifted      2 x plan",
        "churn v4",
        "  windows      3, from 1970-01-01 00:00:00Z to 1970-01-01 00:02:00Z",
        "  verdicts     insufficient 3",
        "  records      60, of which 6 late (10.0%)",
        "  hint         half of the windows have at most 20 records, needed are 100:",
        "               plan.window_ms = 300000 would suit",
    ]
    assert run(["windows", *here]) == 0
    said = capsys.readouterr().err
    assert "churn v4: half of the windows have at most 20 records" in said
    assert "churn v3" not in said
    assert run(["windows", "--summary", "--follow", *here]) == 2


@pytest.mark.embedded
def test_a_follower_goes_on_until_it_is_interrupted(broker: EmbeddedBroker) -> None:
    publish(broker, "alerts", encoded(alert(1)))
    command = [*DRIFTLINE, "alerts", "--follow", "--bootstrap-servers", broker.bootstrap_servers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert "Window 1 moved." in reader.stdout.readline()
        publish(broker, "alerts", encoded(alert(2)))
        assert "Window 2 moved." in reader.stdout.readline()
        reader.send_signal(signal.SIGINT)
        rest, complaints = reader.communicate(timeout=30)
    assert reader.returncode == 130
    assert not rest
    assert "Traceback" not in complaints


@pytest.mark.embedded
def test_a_reader_whose_output_is_closed_ends_in_peace(broker: EmbeddedBroker) -> None:
    publish(broker, "alerts", encoded(*(alert(number) for number in range(2_000))))
    command = [*DRIFTLINE, "alerts", "--from-beginning", "--bootstrap-servers", broker.bootstrap_servers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        reader.stdout.close()
        assert reader.stderr is not None
        complaints = reader.stderr.read()
    assert (reader.returncode, complaints) == (0, "")
