"""No output shows a value of a sensitive signal: every byte of each is searched for thousands of values."""

from __future__ import annotations

import asyncio
import csv
import json
import logging
import re
import struct
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from aiokafka import AIOKafkaProducer
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.baselines.fit import fit
from driftline.detectors.baselines.numeric import numeric_signal
from driftline.detectors.baselines.sensitive import blurred
from driftline.detectors.documents.baseline import Baseline, CategoricalSignal
from driftline.detectors.errors import OperatorError
from driftline.detectors.layout.values import HiddenLevels
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import ModelPlan, Plan, SignalPlan
from driftline.detectors.snapshots.envelope import unseal
from driftline.streams.cli.main import run
from driftline.streams.demo.embedded import embedded_broker
from driftline.streams.engine.dead_letters import redacted_letter
from driftline.streams.formats.letters import RESENT_FROM
from driftline.streams.formats.rejections import Rejection
from driftline.streams.kafka.reader import RecordReader
from tests.memory_broker import Record
from tests.simulator import STAGES, Rehearsal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

START_MS, MINUTE_MS = 1_700_000_040_000, 60_000
N, PER_MINUTE = 1_200, 400
SENSITIVE = ("city", "salary", "bonus", "member")


# A clinic whose values can't be mistaken for anything else.


@dataclass(frozen=True)
class Clinic:
    """Training rows and live records, and the values that none may see."""

    columns: dict[str, list[Any]]
    records: list[bytes]
    words: set[str]
    numbers: set[float]

    def shown_in(self, output: bytes) -> set[str]:
        """The values that an output shows, as text of full or of six digits, or as the eight bytes of a double."""
        text = {word for word in self.words if word.encode() in output}
        fractions = set(re.findall(rb"(?<![\w.])\d+\.\d+(?:e[+-]?\d+)?(?![\w.]*\d)", output))
        text |= {repr(each) for each in self.numbers if {repr(each).encode(), b"%.6g" % each} & fractions}
        return text | {repr(each) for each in self.numbers if struct.pack("<d", each) in output}


def word(random: np.random.Generator) -> str:
    return "".join(random.choice(list("bcdfghjkmnpqrstvwxz"), 12))


@cache
def clinic() -> Clinic:
    random = np.random.default_rng(5)
    cities, bonuses = [word(random) for _ in range(7)], [73219.374518, 61877.127731, 88003.991245]
    words, numbers = set(cities), set(bonuses)

    def row(shift: float = 0.0) -> dict[str, Any]:
        salary = float(np.exp(random.normal(10.6 + shift, 0.4)))
        numbers.add(salary)
        city = cities[int(random.choice(7, p=[0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1]))]
        bonus = bonuses[int(random.integers(3 if shift == 0 else 2))]
        return {"city": city, "salary": salary, "bonus": bonus, "member": bool(random.integers(2)), "grade": "abc"[int(random.integers(3))]}  # fmt: skip

    rows = [row() for _ in range(N)]
    columns: dict[str, list[Any]] = {name: [each[name] for each in rows] for name in rows[0]}
    columns |= {"score": random.random(N).tolist()}
    documents: list[dict[str, Any]] = [
        {"model": "clinic", "version": "1", "id": str(place), "timestamp": START_MS + place * MINUTE_MS // PER_MINUTE}
        | {"features": row(0.5 * (place > N // 2)), "prediction": float(random.random())}
        for place in range(N)
    ]
    for place, document in enumerate(documents):  # values that are odd, in records that are not
        new = word(random)
        words.add(new)
        far = float(random.random() * 1e9 + 1e9)
        numbers.add(far)
        odd: dict[int, dict[str, Any]] = {
            3: {"city": new}, 7: {"salary": far}, 11: {"salary": None, "city": None}, 13: {"salary": new},
            17: {"salary": [new, far]}, 19: {"city": {new: far}}, 23: {"city": far}, 29: {"salary": str(far)},
        }  # fmt: skip
        document["features"] |= odd.get(place % 31, {})
    broken = [broken_record(place, documents[place], max(words), max(numbers)) for place in range(0, N, 10)]
    values = [orjson.dumps(each) for each in documents]
    return Clinic(columns, [each for pair in zip(values, broken * 10, strict=True) for each in pair], words, numbers)


def broken_record(place: int, document: dict[str, Any], text: str, number: float) -> bytes:
    """A record that can't be used and holds sensitive values."""
    features = {"city": text, "salary": number}
    broken = [
        {**document, "features": features, "model": "clinical"},
        {**document, "features": features, "version": "7"},
        {**document, "features": features, "timestamp": text},
        {**document, "features": features, "timestamp": START_MS + 10**10},
        {**document, "features": features, "prediction": [text, number]},
        {**document, "features": [text, number]},
        {**document, "features": text},
        {"input": [text, number], "output": 1.0, "model_version": "1", "model": "clinic"},
        {"input": [text, number], "output": 1.0, "model_version": "1"},
        {"payload": {**document, "features": features}},
        features,
        [text],
    ][place // 10 % 14 % 12]
    raw = orjson.dumps(broken)
    return raw if place // 10 % 14 < 12 else raw[:-9] if place // 10 % 14 == 12 else raw + b"\xff"


# All that is said of it.


@dataclass
class Outputs:
    """Name of an output to its bytes; and the verdicts, parsed."""

    of: dict[str, bytes] = field(default_factory=dict)
    verdicts: dict[str, Any] = field(default_factory=dict)
    baseline: Baseline | None = None

    def shown(self) -> set[str]:
        """Outputs that show a sensitive value."""
        return {name for name, output in self.of.items() if clinic().shown_in(output)}


def training_file(path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(clinic().columns)
        writer.writerows(zip(*clinic().columns.values(), strict=True))
    return path


def built(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> Outputs:
    """Build and show a baseline by the command line."""
    out, outputs = folder / "baseline.json", Outputs()
    rows = training_file(folder / "train.csv")
    named = ["--model", "clinic", "--version", "1", "--prediction", "score", *options]
    capsys.readouterr()
    assert run(["baseline", "build", str(rows), *named, "--suggest"]) == 0
    (suggested := folder / "train.csv.schema.toml").rename(folder / "kept.toml")
    assert not suggested.exists()
    assert run(["baseline", "build", str(rows), *named, "--out", str(out)]) == 0
    outputs.of["build"] = "".join(capsys.readouterr()).encode() + (folder / "kept.toml").read_bytes()
    assert run(["baseline", "show", str(out)]) == 0
    outputs.of["show"] = "".join(capsys.readouterr()).encode()
    outputs.of["baseline"] = out.read_bytes()
    outputs.baseline = Baseline.from_json(out.read_bytes())
    return outputs


def watched(outputs: Outputs, watch: Watch, caplog: pytest.LogCaptureFixture) -> dict[str, list[Record]]:
    """Run both stages over the records."""
    with caplog.at_level(logging.DEBUG):
        found = Rehearsal(watch, dict.fromkeys(STAGES, 2))
        for place, value in enumerate(clinic().records):  # a good one, a broken one, and so on
            sent_ms = START_MS + place // 2 * MINUTE_MS // PER_MINUTE
            found.broker.publish("predictions", place // 2 % 2, [(value, sent_ms)])
        asyncio.run(found.run([]))
        found.shared.strangers.say()
    topics = {topic: found.broker.records(topic) for topic in ("partials", "windows", "alerts", "dead_letters")}
    for topic, written in topics.items():
        outputs.of[topic] = b"\n".join(
            part for each in written for part in (each.key or b"", each.value or b"", *(b for h in each.headers for b in (h[0].encode(), h[1])))
        )  # fmt: skip
    outputs.of["changelogs"] = b"\n".join(
        unseal(raw).payload for own in found.broker.saved.values() for raw in own.values()
    )
    outputs.of["logs"] = "\n".join(record.getMessage() for record in caplog.records).encode()
    outputs.of["metrics"] = str(list(found.metrics.registry.collect())).encode()
    verdicts = [orjson.loads(each.value or b"") for each in topics["windows"]]
    outputs.verdicts = {each["id"]: each for each in verdicts if each["final"]}
    return topics


def commands(
    outputs: Outputs, topics: Mapping[str, list[Record]], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the command line shows of the topics, and says of a file."""
    names = {"windows": "windows", "alerts": "alerts", "dead_letters": "dead-letters"}
    with embedded_broker(dict.fromkeys([*names.values(), "predictions", "partials", "baselines"], 1)) as broker:

        async def write() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)
            await producer.start()
            for topic, name in names.items():
                for each in topics[topic][:500]:
                    await producer.send(name, each.value, key=each.key, headers=list(each.headers))
            await producer.stop()

        asyncio.run(write())
        here = ["--bootstrap-servers", broker.bootstrap_servers]
        for name in names.values():
            for form in ([], ["--json"], ["--summary"])[: 2 + (name != "alerts")]:
                capsys.readouterr()
                assert run([name, *form, *([] if "--summary" in form else ["--from-beginning"]), *here]) == 0
                outputs.of[" ".join(["driftline", name, *form])] = "".join(capsys.readouterr()).encode()
        assert run(["baseline", "publish", str(folder / "baseline.json"), *here]) == 0
        rows = folder / "train.csv"
        rows.write_text(rows.read_text(encoding="utf-8") + f"{min(clinic().words)},{min(clinic().words)},?\n")
        arguments = [str(rows), "--model", "clinic", "--version", "1", "--prediction", "score", "--dry-run", *here]
        assert run(["publish", *arguments]) in (0, 2)
        outputs.of["publish"] = "".join(capsys.readouterr()).encode()


@pytest.mark.embedded
def test_no_output_shows_a_value_of_a_sensitive_signal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    outputs = built(tmp_path, capsys, "--sensitive", ",".join(SENSITIVE))
    assert outputs.baseline is not None
    topics = watched(outputs, Watch(Plan(events_per_window=200)).with_baseline(outputs.baseline), caplog)
    commands(outputs, topics, tmp_path, capsys)
    assert len(outputs.of) == 19
    assert all(outputs.of.values())
    assert outputs.shown() == set()
    assert b"bin 20 of 20: " in outputs.of["alerts"]
    kinds = {(each["kind"], each["detector"]) for each in map(orjson.loads, (a.value or b"" for a in topics["alerts"]))}
    assert {("data_quality", "range"), ("data_quality", "category"), ("drift", "marginal")} <= kinds
    assert {dict(each.headers)["reason"] for each in topics["dead_letters"]} >= {b"unknown_model", b"invalid_json"}


@pytest.mark.embedded
def test_without_the_declaration_the_same_search_finds_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    outputs = built(tmp_path, capsys)
    assert outputs.baseline is not None
    topics = watched(outputs, Watch(Plan(events_per_window=200)).with_baseline(outputs.baseline), caplog)
    commands(outputs, topics, tmp_path, capsys)
    found = {"baseline", "show", "partials", "windows", "alerts", "dead_letters", "changelogs"}
    found |= {
        f"driftline {each}"
        for each in ("windows --json", "alerts", "alerts --json", "dead-letters", "dead-letters --json")
    }
    assert outputs.shown() >= found


def declared(*signals: str) -> Plan:
    return Plan(models={"clinic": ModelPlan(signals={name: SignalPlan(sensitive=True) for name in signals})})


def test_a_plan_that_declares_it_is_enough_for_all_that_workers_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    outputs = built(tmp_path, capsys)
    assert outputs.baseline is not None
    watched(outputs, Watch(declared(*SENSITIVE)).with_baseline(outputs.baseline), caplog)
    assert not outputs.shown() & {"partials", "windows", "alerts", "dead_letters", "changelogs", "logs", "metrics"}


def test_a_build_honours_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = {name: {"sensitive": True} for name in (*SENSITIVE, "prediction")}
    monkeypatch.setenv("DRIFTLINE_PLAN__MODELS", json.dumps({"clinic": {"signals": signals}}))
    outputs = built(tmp_path, capsys)
    assert outputs.baseline is not None
    assert outputs.shown() == set()
    assert {name for name, each in outputs.baseline.signals.items() if each.sensitive} == {*SENSITIVE, "prediction"}


def test_verdicts_are_the_same_as_without_the_declaration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    plain, hidden = (
        built(tmp_path, capsys),
        built(tmp_path, capsys, "--sensitive", "city", "--sensitive", "member,salary,bonus"),
    )
    for outputs in (plain, hidden):
        assert outputs.baseline is not None
        watched(outputs, Watch(Plan()).with_baseline(outputs.baseline), caplog)
    ours, theirs = (sorted(each.verdicts.values(), key=lambda v: v["window"]["start_ms"]) for each in (plain, hidden))
    assert [each["status"] for each in ours] == [each["status"] for each in theirs]
    assert len(ours) >= 2
    for one, other in zip(ours, theirs, strict=True):
        assert one["violations"] == other["violations"]
        for name, signal in one["signals"].items():
            told = other["signals"][name]
            if name == "salary":  # edges lie elsewhere between the values of training
                assert told["counts"] == pytest.approx(signal["counts"], abs=5)
            else:
                assert sorted(signal["counts"]) == sorted(told["counts"])
            for key in ("missing", "nonfinite", "unseen", "drift", "cause"):
                assert signal[key] == told[key]
            assert told["p_value"] == pytest.approx(signal["p_value"], rel=0.5 if name == "salary" else 1e-6)


# Dead letters.


def letters(watch: Watch, *documents: dict[str, Any]) -> list[Record]:
    found = Rehearsal(watch, dict.fromkeys(STAGES, 1))
    found.broker.publish("predictions", 0, [(orjson.dumps(each), START_MS) for each in documents])
    asyncio.run(found.run([]))
    return found.broker.records("dead_letters")


@pytest.mark.parametrize("is_planned", [True, False])
def test_only_records_of_models_that_have_nothing_to_hide_are_shown(*, is_planned: bool) -> None:
    columns: dict[str, list[Any]] = {"city": ["a", "b"] * 50}
    secret = fit("clinic", "1", columns, () if is_planned else ["city"])
    watch = (
        Watch(declared("city") if is_planned else Plan()).with_baseline(secret).with_baseline(fit("shop", "1", columns))
    )
    names = [{"model": "clinic"}, {"model": "shop"}, {"model": "other"}, {}, {"model": "-"}]
    found = letters(watch, *({**name, "version": "9", "features": {"city": "x"}, "prediction": 1} for name in names))
    assert [bool(each.value) for each in found] == [False, True, False, False, False]
    headers = [{name: text.decode() for name, text in each.headers} for each in found]
    assert headers[1]["found"] == '"9"'
    assert headers[0] == {
        "reason": "unknown_model", "field": "version", "wanted": headers[1]["wanted"], "topic": "predictions",
        "partition": "0", "offset": "0", "redacted": "true", "size": "71", "timestamp": str(START_MS),
    }  # fmt: skip


def test_records_of_a_model_whose_baseline_was_withdrawn_stay_hidden() -> None:
    watch = (
        Watch(Plan()).with_baseline(fit("clinic", "1", {"city": ["a", "b"] * 50}, ["city"])).without(("clinic", "1"))
    )
    [letter] = letters(watch, {"model": "clinic", "version": "1", "features": {"city": "x"}, "prediction": 1})
    assert letter.value == b""


@pytest.mark.embedded
def test_a_redacted_letter_is_resent_from_its_origin_while_the_record_is_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    values = [orjson.dumps({"model": "clinic", "timestamp": START_MS + row}) for row in range(4)]

    async def reject(address: str) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=address)
        await producer.start()
        for row, value in enumerate(values):
            sent = await producer.send_and_wait("predictions", value, key=b"%d" % row, timestamp_ms=START_MS)
            # The third letter is of a record that lay there before the topic was made anew; the last one's is gone.
            origin = Record("predictions", 0, sent.offset + 10 * (row == 3), START_MS - (row == 2), value)
            letter = redacted_letter(origin, Rejection(origin.offset, "missing_field", "version"))
            await producer.send_and_wait("dead-letters", letter.value, headers=list(letter.headers))
        await producer.stop()

    async def resent(address: str) -> list[tuple[bytes, bytes]]:
        async with RecordReader(address, "predictions", "beginning", "end") as reader:
            return [(each.key, each.value) async for each in reader if RESENT_FROM in dict(each.headers)]

    with embedded_broker({"predictions": 1, "partials": 1, "dead-letters": 1}) as broker:
        asyncio.run(reject(broker.bootstrap_servers))
        for said in ("2 dead letters can be sent", "0 dead letters can be sent"):
            assert run(["dead-letters", "--resend", "--yes", "--bootstrap-servers", broker.bootstrap_servers]) == 0
            assert said in (out := capsys.readouterr().out)
            assert "2 hold no whole record" in out
        assert asyncio.run(resent(broker.bootstrap_servers)) == [(b"0", values[0]), (b"1", values[1])]


# Profiles.


@pytest.mark.embedded
def test_a_baseline_that_shows_what_the_plan_declares_is_not_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "baseline.json"
    monkeypatch.setenv("DRIFTLINE_PLAN__MODELS", '{"clinic": {"signals": {"city": {"sensitive": true}}}}')
    with embedded_broker({"baselines": 1}) as broker:
        publish = ["baseline", "publish", str(path), "--bootstrap-servers", broker.bootstrap_servers]
        path.write_bytes(fit("clinic", "1", {"city": ["a", "b"] * 50}).to_json())
        assert run(publish) == 2
        assert "plan.models.clinic.signals.city.sensitive" in capsys.readouterr().err
        path.write_bytes(fit("clinic", "1", {"city": ["a", "b"] * 50}, ["city"]).to_json())
        assert run(publish) == 0


def test_a_sensitive_signal_without_a_column_is_refused() -> None:
    with pytest.raises(OperatorError, match="agee"):
        fit("clinic", "1", {"age": [1.0, 2.0]}, ["agee"])


columns_of_numbers = st.one_of(
    st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=80),
    st.lists(st.integers(-200, 3_000).map(float), min_size=1, max_size=80),
    st.lists(st.sampled_from([53219.37, 61877.12, 0.0, 1.0, 7.0]), min_size=1, max_size=80),
    st.lists(st.integers(0, 50).map(lambda cent: 53219 + cent / 100), min_size=1, max_size=80),
)


@given(columns_of_numbers)
def test_no_number_of_a_blurred_profile_is_a_value_but_limits(found: list[float]) -> None:
    values = np.array(found)
    signal = blurred(numeric_signal(values), values)
    numbers = [*signal.edges, *signal.tails, signal.mean]
    assert not {*numbers} & {*found}
    bounds = {each for each in (signal.least, signal.low, signal.high, signal.most) if each is not None}
    assert not (bounds & {*found}) - {0.0, 1.0, 100.0}
    assert sum(signal.counts) == values.size
    exact = numeric_signal(values)
    assert signal.low <= exact.low
    assert signal.high >= exact.high
    baseline = fit("m", "1", {"x": found}, ["x"]).checked()
    assert baseline.signals["x"] == signal


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_few_whole_numbers_keep_their_bins(found: list[int]) -> None:
    values = np.array(found, np.float64)
    exact = numeric_signal(values)
    assert blurred(exact, values).counts == exact.counts


@pytest.mark.parametrize("levels", [["red", "blue", "3", "true"], [f"shop {k}" for k in range(150)], [True, False]])
def test_live_values_find_their_hashed_levels(levels: list[Any]) -> None:
    rows: list[Any] = [level for level in levels for _ in range(4)] + [None]
    found = {}
    for sensitive in ((), ("x",)):
        layout = Layout.of(fit("m", "1", {"x": rows}, sensitive), Plan())
        signal = layout.baseline.signals["x"]
        assert isinstance(signal, CategoricalSignal)
        [table], n = layout.levels, len(signal.levels)
        live = [*levels, None, "mauve", 3.0, 3, True, "TRUE", 1, "1", *signal.levels]
        places = [table[each] for each in (*live, *live)]  # again: places are remembered
        found[sensitive] = [place - n if place >= n else signal.counts[place] for place in places[: len(live) - n]]
        assert isinstance(table, HiddenLevels) == bool(sensitive)
    hidden = Layout.of(fit("m", "1", {"x": rows}, ["x"]), Plan())
    assert all(hidden.levels[0][each] >= len(signal.levels) for each in hidden.baseline.signals["x"].levels)  # type: ignore[union-attr]
    if len(levels) < 100:
        assert found[()] == found["x",]
