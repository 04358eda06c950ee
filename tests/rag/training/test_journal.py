"""Journal and picture of a training."""

import xml.etree.ElementTree as ET

from rag.training.journal import Journal, of_steps, read_journal
from rag.training.loss_picture import loss_svg, smoothed


def test_records_come_back_and_later_ones_are_dropped(tmp_path):
    journal = Journal(tmp_path)
    journal.begin(0)
    for step in (1, 2, 3):
        journal.record(step, loss=step / 3)
    assert read_journal(tmp_path / "losses.jsonl") == []
    journal.flush()
    journal.flush()
    path = tmp_path / "losses.jsonl"
    assert of_steps(read_journal(path), "loss") == [(1, 0.333333), (2, 0.666667), (3, 1.0)]
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    resumed = Journal(tmp_path)
    resumed.begin(2)
    resumed.record(3, loss=0.5)
    resumed.flush()
    assert of_steps(read_journal(path), "loss") == [(1, 0.333333), (2, 0.666667), (3, 0.5)]


def test_no_file_has_no_records(tmp_path):
    assert read_journal(tmp_path / "losses.jsonl") == []


def test_smoothing_means_neighbours():
    assert smoothed([(1, 1.0), (2, 3.0), (3, 5.0), (4, 7.0), (5, 9.0)], 3) == [
        (2, 2.0),
        (4, 6.0),
        (5, 9.0),
    ]
    assert smoothed([], 5) == []
    assert smoothed([(1, 1.0)], 5) == [(1, 1.0)]


def test_the_picture_is_well_formed_and_escapes_its_title():
    records = [{"step": step, "loss": 1 / step} for step in range(1, 30)]
    records += [{"step": step, "auc": 0.9, "compression": 0.5} for step in (0, 15, 29)]
    root = ET.fromstring(loss_svg(records, 'a <b> & "c"'))
    assert root.attrib["aria-label"] == 'a <b> & "c"'
    drawn = [one.attrib.get("class") for one in root if one.tag.endswith("path")]
    assert {"loss", "compression", "auc"} <= set(drawn)
    assert "http" not in ET.tostring(root, encoding="unicode").replace(
        "http://www.w3.org/2000/svg", ""
    )


def test_an_empty_journal_has_a_picture_too():
    assert ET.fromstring(loss_svg([], "nothing yet")) is not None
