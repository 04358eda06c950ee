"""The page: complete, well-formed, exact, and nothing in it can act or reach the network."""

import base64
import hashlib
import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from rag.records import Answer, Attention, ContextStep
from rag.tracing import Trace, answer_html, fragment, page

HOSTILE = """</style></script><script>alert(1)</script><img onerror='x' src="y">]]>&amp;<!-- "'"""
VOID = {"meta", "input", "br", "img", "link"}


class Parsed(HTMLParser):
    """Checks that every element is closed in order, and gathers elements and texts."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts = [], [], {}
        self.ids = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def all_text(self):
        return "\n".join(text for texts in self.texts.values() for text in texts)


def test_a_page_is_well_formed_and_shows_every_part(trace):
    parsed = Parsed(page(trace))
    assert parsed.texts["h2"] == [
        "Answer",
        "Steps",
        "Passages",
        "KV cache",
        "Prompt",
        "Records",
    ]
    assert parsed.texts["h1"] == ["advanced"]
    assert len(parsed.ids) == len(set(parsed.ids))
    links = {a["href"][1:] for tag, a in parsed.elements if tag == "a"}
    assert links <= set(parsed.ids)
    assert {"kv", "p0d0s0"} <= links


def test_pruned_sentences_are_struck_through_and_kept_ones_are_not(trace):
    parsed = Parsed(page(trace))
    assert "The lamp is red." in parsed.texts["del"]
    assert "Backups run at two." not in parsed.texts["del"]
    titles = {a.get("title") for tag, a in parsed.elements if tag in ("del", "span")}
    assert {"kept, 0.900", "pruned, 0.100", "kept, 0.600"} <= titles


def test_kv_segments_are_coloured_by_what_the_store_said(trace):
    trace.event("kv", hits=0, misses=2, bytes=0, segments={"x": "absent", "y": "corrupt: sum"})
    shown = page(trace)
    assert '<span class="chip miss">x: absent</span>' in shown
    assert '<span class="chip corrupt">y: corrupt: sum</span>' in shown
    assert '<span class="chip hit">prefix: hit (ram)</span>' in shown


def looked_at(build, **shares):
    """A run's answer of which the model looked at passages so much."""
    looked = tuple(Attention(f"{name}.md:0", share) for name, share in shares.items())
    return replace(build.answer(passages=(build.passage(),)), attention=looked)


def test_a_passage_shows_how_much_the_model_looked_at_it(build):
    trace = build.run()
    assert "attention" not in page(trace)
    trace.output(looked_at(build, a=0.834, c=0.166), step="generate", path="loop[0]/generate")
    shown = page(trace)
    assert '<span class="chip">loop[0]/generate: attention 83%</span>' in shown
    assert "17%</span>" not in shown, "no card of a passage that nobody retrieved"
    assert "looked at a.md:0 83%, c.md:0 17%" in Parsed(shown).all_text()


def test_a_sentence_tells_how_much_the_model_looked_at_it(build):
    trace = build.run()
    titles = {"kept, 0.900", "pruned, 0.100", "kept, 0.600"}
    assert titles <= titles_of(trace)
    looked = Attention("a.md:0", 0.6, (0.254, 0.0))
    trace.output(replace(build.answer(), attention=(looked,)), step="g", path="g")
    trace.event("attention", passages=[{"passage_id": "a.md:0", "share": 1, "sentences": [1, "?"]}])
    assert titles_of(trace) >= {
        "kept, 0.900, g: attention 25%, loop[0]/judge: attention 100%",
        "pruned, 0.100, g: attention 0%",
        "kept, 0.600",
    }


def titles_of(trace):
    return {given["title"] for _, given in Parsed(page(trace)).elements if "title" in given}


def test_every_step_that_answered_has_its_own_attention(build):
    trace = build.run()
    for path, share in (("first", 0.2), ("second", 0.5)):
        trace.output(looked_at(build, a=share, b=1 - share), step=path, path=path)
    shown = page(trace)
    for chip in ("first: attention 20%", "second: attention 50%", "first: attention 80%"):
        assert f'<span class="chip">{chip}</span>' in shown


def test_in_a_notebook_an_answer_shows_where_the_model_looked(build):
    assert '<span class="chip">run: attention 60%</span>' in answer_html(looked_at(build, a=0.6))


@pytest.mark.parametrize(
    "passages", [None, 3, "x", ["a"], [{"passage_id": "a.md:0"}], [{"share": "much"}], [{}]]
)
def test_attention_of_another_shape_does_no_harm(build, passages):
    trace = build.run()
    trace.event("attention", passages=passages)
    assert ": attention" not in page(trace)


def test_the_page_tells_how_each_passage_was_read_and_what_it_would_have_cost(build):
    trace = build.run()
    assert "read as" not in page(trace)
    step = ContextStep("a.md:0", "rows", "loading < computing", 40, 10, 0.025, {"text": 0.5})
    trace.output(replace(build.answer(), context=(step,)), step="g", path="g")
    shown = page(trace)
    assert '<span class="chip" title="loading &lt; computing">g: read as rows</span>' in shown
    told = Parsed(shown).all_text()
    assert "read a.md:0 as rows" in told
    cells = ("g", "a.md:0", "rows", "10 of 40", "0.025", "text 500 ms", "loading &lt; computing")
    assert "".join(f"<td>{cell}</td>" for cell in cells) in shown
    assert "run: read as rows" in answer_html(
        replace(build.answer(passages=(build.passage(),)), context=(step,))
    )


@pytest.mark.parametrize(
    "passages",
    [None, 3, "x", ["a"], [{}], [{"passage_id": "a.md:0", "seconds": 3, "load_ratio": "much"}],
     [{"passage_id": "a.md:0", "step": 7, "seconds": {"text": "long"}}]],
)  # fmt: skip
def test_steps_of_another_shape_do_no_harm(build, passages):
    trace = build.run()
    trace.event("context", passages=passages)
    page(trace)


@pytest.mark.parametrize(
    "prompt", ["\nfirst feed", "a\r\nb\rc", "tab\t <|x|> &lt; ]]>", "a  b \n\n ", HOSTILE]
)
def test_every_character_of_the_prompt_is_there(build, prompt):
    trace = Trace()
    trace.output(build.answer(prompt=prompt))
    written = re.findall(r"<pre>\n(.*?)</pre>", page(trace), re.DOTALL)
    assert html.unescape(written[0]) == prompt


def test_control_characters_and_half_surrogates_are_shown_as_pictures_and_codes(build):
    trace = Trace()
    trace.output(build.answer(prompt="a\x00b\x1bc\ud800d"))
    assert "a␀b␛c\\ud800d" in page(trace)
    page(trace).encode("utf-8")


@pytest.mark.parametrize("draw", [page, fragment, lambda t: page(t, Trace(pipeline=HOSTILE))])
def test_hostile_text_anywhere_stays_text(build, draw):
    trace = build.run(said=HOSTILE, ids=(HOSTILE,), question=HOSTILE, **{HOSTILE: HOSTILE})
    trace.run["pipeline"] = HOSTILE
    trace.run["overrides"] = [HOSTILE]
    trace.event(HOSTILE, path=HOSTILE, **{HOSTILE: HOSTILE})
    trace.event("kv", hits=0, misses=1, bytes=0, segments={HOSTILE: HOSTILE})
    trace.output(build.passage(HOSTILE, text=HOSTILE, sentences=(), score=1.0))
    shown = draw(trace)
    parsed = Parsed(shown)
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"img", "iframe", "link", "object", "base"}
    assert sum(tag == "script" for tag, _ in parsed.elements) == (draw is not fragment)
    assert not [a for _, a in parsed.elements for name in a if name.startswith("on")]
    assert HOSTILE in parsed.all_text()


def test_nothing_refers_to_the_network_and_the_policy_forbids_it(trace):
    for shown in (page(trace), page(trace, trace), fragment(trace)):
        assert "//" not in shown
        for word in ("src=", "@import", "url(", "<link", 'http-equiv="refresh'):
            assert word not in shown
    policy = next(
        a["content"]
        for tag, a in Parsed(page(trace)).elements
        if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_the_policy_allows_exactly_our_script_and_style(trace):
    shown = page(trace)
    parsed = Parsed(shown)
    for tag in ("script", "style"):
        (text,) = parsed.texts[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src &#x27;sha256-{digest}&#x27;" in shown
    assert not [a for _, a in parsed.elements if "style" in a]


def test_bars_stand_where_in_the_run_a_step_ran(trace):
    bars = re.findall(r'<rect class="(\w+)" x="([\d.]+)" y="0" width="([\d.]+)"', page(trace))
    total = 100.5
    expected = [("block", 0, 100.5), ("stored", 0, 10), ("bar", 10, 20), ("bar", 30, 70)]
    for (kind, x, width), (wanted, began, wall) in zip(bars, expected, strict=False):
        assert kind == wanted
        assert float(x) == pytest.approx(1000 * began / total, abs=0.11)
        assert float(width) == pytest.approx(1000 * wall / total, abs=0.11)
    assert len(bars) == 5


def test_a_citation_links_to_its_sentence_and_bare_sentences_are_marked(trace):
    shown = page(trace)
    assert re.search(
        r'They run at two\. <a href="#p0d0s0" title="a.md:0: Backups[^>]*>\[1\]', shown
    )
    assert re.search(r'<span class="unsupported"[^>]*>It is late\.</span>', shown)


def test_a_trace_without_content_has_a_page(build):
    trace = build.run(content=False)
    shown = page(trace)
    assert "Backups" not in shown
    assert "[20:37]" in shown
    assert "texts not kept" in shown


def test_an_empty_run_and_odd_events_have_a_page():
    trace = Trace()
    trace.event("retrieved", passages=[{"id": 3}, "x", {"id": "y", "span": "z", "text": 5}])
    trace.event("pruned", passage="y", sentences=[{"span": [5, 1]}, {"span": [0, 2], "score": "a"}])
    trace.event("kv", segments=[1], bytes="many")
    trace.event("generated", text="t", tokens="x")
    trace.event("citations", citations=["x", {"answer_end": 99}, {"answer_end": 1}])
    trace.event("prompt", text=3)
    Parsed(page(trace))
    Parsed(page(trace, Trace()))
    Parsed(fragment(Trace()))


def test_two_runs_show_what_differs(build):
    old = build.run(overrides=["k=1"])
    new = build.run(kept=(0.9, 0.8, 0.6), said="They run at three.", ids=("a.md:0",), speed=2.0)
    parsed = Parsed(page(old, new))
    assert "The lamp is red." in parsed.texts["ins"]
    assert "b.md:0" in parsed.texts["del"]
    assert "three" in parsed.texts["ins"]
    cells = parsed.texts["td"]
    row = cells.index("loop[0]/retrieve")
    assert cells[row + 1 : row + 4] == ["10.0 ms", "20.0 ms", "2.00×"]
    row = cells.index("overrides")
    assert cells[row + 1 : row + 3] == ['["k=1"]', "–"]


def test_a_run_beside_itself_shows_no_difference(trace):
    parsed = Parsed(page(trace, trace))
    assert "ins" not in parsed.texts
    assert "del" not in parsed.texts
    assert parsed.texts["p"].count("no difference in settings") == 1


def test_in_a_notebook_a_trace_and_an_answer_bring_style_but_no_script(build, trace):
    answer = build.answer(passages=(build.passage(kept=(0.9, 0.1, 0.6)), build.passage("b:0")))
    assert trace._repr_html_() == fragment(trace)
    assert answer._repr_html_() == answer_html(answer)
    for shown in (fragment(trace), answer_html(answer)):
        parsed = Parsed(shown)
        assert "script" not in parsed.texts
        assert "The lamp is red." in parsed.texts["del"]
        style = re.sub(r"@media[^{]*\{", "", parsed.texts["style"][0])
        selectors = re.findall(r"([^{}]+)\{", style)
        assert all(
            part.strip().startswith(".dovetail") or part.strip().startswith("body.dovetail")
            for s in selectors
            for part in s.split(",")
        )
    assert "ttft 12.5 ms" in answer_html(answer)
    Parsed(answer_html(Answer("")))


def test_words_are_struck_through_and_have_no_attention_of_sentences(build):
    one = build.passage(kept=(0.9, 0.1, 0.6))
    trace = Trace()
    trace.output([replace(one, kept=replace(one.kept, unit="word"))], step="prune", path="prune")
    looked = Attention("a.md:0", 1.0, (0.5, 0.5))
    trace.output(replace(build.answer(), attention=(looked,)), step="g", path="g")
    parsed = Parsed(page(trace))
    assert "The lamp is red." in parsed.texts["del"]
    titles = {a.get("title") for tag, a in parsed.elements if tag in ("del", "span")}
    assert {"kept, 0.900", "pruned, 0.100", "kept, 0.600"} <= titles
