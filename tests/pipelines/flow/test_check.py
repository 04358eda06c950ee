"""The checker: every mistake by its code and exact words, and flows that have none."""

import pytest

from pipelines.flow.blocks import (
    Definition,
    ResourceUse,
    Step,
    branch,
    loop,
    map,  # noqa: A004
    nested,
    recurse,
    route,
    step,
)
from rag.records import Answer, Completion, Judgement, Passage, Query, Route


@pytest.fixture
def said(pipeline):
    """Return a function that gives the mistakes of a pipeline as (code, words)."""

    def mistakes(*steps, outputs=(), **more):
        found = pipeline(*steps, outputs=outputs, **more).check()
        return [(mistake.code, str(mistake)) for mistake in found]

    return mistakes


def needs_text(text: str) -> Query:
    return Query(text)


def number(query: Query) -> int:
    return len(query.text)


def complete(query: Query) -> Completion:
    return Completion(query.text)


def find(query: Query) -> list[Passage]:
    return []


def reply(query: Query, passages: list[Passage]) -> Answer:
    return Answer("")


def judge(answer: Answer, previous: Answer | None = None) -> Judgement:
    return Judgement(passed=True, score=1)


def must_judge(answer: Answer, previous: Answer) -> Judgement:
    return Judgement(passed=True, score=1)


def words(query: Query) -> list[Query]:
    return []


def label(query: Query) -> Route:
    return Route(("a",))


def first(answers: list[Answer]) -> Answer:
    return answers[0]


def join(rankings: list[list[Passage]]) -> list[Passage]:
    return []


def as_query(answer: Answer) -> Query:
    return Query(answer.text)


async def later(query: Query) -> Answer:
    return Answer("")


DEFINED = "variables here: query: Query"


def test_a_sound_pipeline_has_no_mistakes(said):
    assert said(find, reply, judge, outputs=("answer", "judgement")) == []


def test_every_mistake_is_said_at_once(said):
    found = said("retrieve.serch", step("retrieve.search", top_kk=1), reply, outputs=("anwser",))
    assert [code for code, _ in found] == [
        "unknown-operator",
        "unknown-option",
        "unknown-variable",
    ]


@pytest.mark.parametrize(
    ("one", "code", "words_"),
    [
        ("retrieve.serch", "unknown-operator", "no operator 'retrieve.serch'; did you mean 'retrieve.search'?"),
        (step("retrieve.search", top_kk=1), "unknown-option", "retrieve.search has no option 'top_kk'; did you mean 'top_k'?"),
        (step("retrieve.search", top_k=0), "out-of-range", "retrieve.search.top_k must be at least 1, got 0"),
        (step("retrieve.search", top_k="x"), "wrong-type", "retrieve.search.top_k wants int, got 'x'"),
        (step("retrieve.search", how="exat"), "wrong-type", "retrieve.search.how wants 'exact' or 'loose', got 'exat'; did you mean 'exact'?"),
        (step(find, k=1), "unknown-option", "find has no option 'k'; it has none"),
        ("route.rules", "missing-option", "route.rules needs the option 'rules'"),
        (step("generate.write", lm="docs"), "unknown-resource", "generate.write.lm names the resource 'docs', which is not declared; known: index, lm"),
        (step(find, inputs={"qery": "query"}), "unknown-port", "find has no input 'qery'; did you mean 'query'?"),
        (step(find, inputs={"query": "qery"}), "unknown-variable", "find.query reads 'qery', which no step before it defines; did you mean 'query'?"),
        (reply, "missing-input", f"reply needs passages (list[Passage]), which no step before it defines; {DEFINED}"),
        (step(reply, inputs={"passages": "query"}), "wrong-type", f"reply.passages wants list[Passage], but 'query' is Query; {DEFINED}"),
        (step(needs_text, inputs={"text": "query"}), "wrong-type", f"needs_text.text wants str, but 'query' is Query; {DEFINED}"),
        (number, "unnamed-output", "number returns int, which has no usual name; name it with out"),
        (step(find, when={"var": "query.text", "empty": False}), "maybe-undefined", "step 'find' has a condition, so 'passages' may stay as it was, but it is not defined before it; define it before, or use a route"),
        (step(number, out="query", when={"var": "query.text", "empty": False}), "maybe-undefined", "step 'number' has a condition, so 'query' may stay as it was, but it is Query before it; define it before, or use a route"),
        (step(find, cache=True), "uncacheable", "step 'find' is not in the catalogue, so its results cannot be cached"),
        (step("generate.write", temperature=0.5, cache=True), "uncacheable", "step 'generate' samples, so it is cached only with a seed; give seed"),
        (Step(use=5), "no-operator", "int cannot be called: it is int"),
        (lambda query: query, "untyped", "step 'step' has no annotation for query, what it returns; it is not checked"),
    ],
)  # fmt: skip
def test_mistakes_of_a_step(said, one, code, words_):
    assert (code, words_) in said(one)


def test_an_unannotated_step_is_only_a_note(pipeline):
    made = pipeline(step(lambda query: query, out="query"), outputs=("query",))
    assert [m.level for m in made.check()] == ["note"]
    assert made.checked.errors == []


def test_a_variable_of_the_right_type_is_proposed(said):
    found = said(step(find, out="hits"), reply)
    hint = "bind one that fits: in: {passages: hits}"
    assert f"which no step before it defines; {hint}" in found[0][1]


@pytest.mark.parametrize(
    ("test", "code", "words_"),
    [
        ({"var": "qury"}, "unknown-variable", "the condition reads 'qury', which no step before it defines; did you mean 'query'?"),
        ({"var": "query.txt", "equals": "a"}, "unknown-field", "Query has no field 'txt'; did you mean 'text'?"),
        ({"var": "query.text", "above": 1}, "wrong-type", "'query.text' is str: only a number is above or below"),
        ({"var": "query", "contains": "a"}, "wrong-type", "'query' is Query: only a list or a text contains something"),
        ({"var": "query", "empty": True}, "wrong-type", "'query' is Query: only a list or a text is empty"),
        ({"var": "query.text"}, "wrong-type", "'query.text' is str: only a flag or a judgement is true by itself; compare it"),
        ({"var": "query.text", "equals": 5}, "wrong-type", "query.text equals wants str, got 5"),
        ({"var": "query.text", "in": "ab"}, "wrong-type", "query.text in wants list[str], got 'ab'"),
        ({"judge": find}, "wrong-type", "find returns list[Passage], not Judgement, so it cannot judge"),
    ],
)  # fmt: skip
def test_mistakes_of_a_condition(said, test, code, words_):
    assert (code, words_) in said(
        step(as_query, inputs={"answer": "a"}, when=test), inputs={"query": "Query", "a": "Answer"}
    )


def test_conditions_compare_with_what_a_field_holds(said):
    tests = [
        {"var": "completion.finish", "equals": "stop"},
        {"var": "completion.tokens", "contains": "a"},
        {"var": "completion.logprobs", "empty": True},
        {"not": {"any": [{"var": "completion.text", "in": ["a", "b"]}]}},
    ]
    assert said(complete, step(complete, when={"all": tests})) == []
    (wrong,) = said(complete, step(complete, when={"var": "completion.finish", "equals": "stp"}))
    assert wrong[1].startswith("completion.finish equals wants 'stop', 'length' or ''")


def test_mistakes_of_a_whole_pipeline(said):
    assert said() == [("no-steps", "pipeline 'p' has no steps")]
    assert said(words, inputs={"query": "Qery"}) == [
        ("unknown-type", "input 'query': 'Qery' is not a type")
    ]
    assert said(words, inputs={"query": "Query", "trace": "str"}) == [
        ("reserved-name", "an input cannot be called 'trace'")
    ]
    assert said(step(words, id="a"), step(words, id="a")) == [
        ("duplicate-id", "two steps have the id 'a'")
    ]
    assert said(words, outputs=("querys",)) == [
        (
            "unknown-variable",
            "the output 'querys' is no variable at the end; did you mean 'query'?",
        )
    ]


# --- route and branch ----------------------------------------------------------------------


def test_only_what_every_arm_defines_survives_a_route(said):
    arms = {"a": [step(complete, out="x"), step(find, out="y")], "b": [step(complete, out="x")]}
    assert said(route(label, arms), outputs=("x",)) == []
    assert said(route(label, arms), outputs=("y",))[0][0] == "unknown-variable"


def test_what_two_arms_define_with_different_types_does_not_survive(said):
    arms = {"a": [step(complete, out="query")], "b": [find]}
    assert said(route(label, arms), words)[0][0] == "missing-input"


def test_a_variable_that_one_arm_writes_again_survives(said):
    arms = {"a": [step(as_query)], "b": [find]}
    assert said(find, reply, route(label, arms), words) == []


@pytest.mark.parametrize(
    ("block", "code", "words_"),
    [
        (route(find, {"a": [find]}), "wrong-type", "find returns list[Passage], not Route or Judgement, so it cannot route"),
        (route("qury", {"a": [find]}), "unknown-variable", "route is by 'qury', which no step before it defines; did you mean 'query'?"),
        (route("query", {"a": [find]}), "wrong-type", "route is by 'query', which is Query, not Route or Judgement"),
        (route(label, {}), "no-arms", "route needs at least one arm"),
        (route(label, {"a": [find]}, policy="all"), "missing-merge", "policy all can take several arms, so it needs merge"),
        (route(label, {"a": [find]}, merge={"passages": join}), "unused-merge", "policy single takes one arm, so merge does nothing"),
        (route(label, {"a": [find]}, policy="best"), "wrong-type", "policy wants one of single, threshold, top_p, all, unsure, got 'best'"),
        (route(label, {"a": [find]}, threshold=2), "out-of-range", "route.threshold must be in [0, 1], got 2"),
        (route(step("route.rules", rules={"a": "x", "b": "y"}, default="c"), {"a": [find], "d": [find]}), "unknown-label", "arm 'd' is no label of its router; known: a, b, c"),
        (route(step("route.rules", rules={"a": "x"}, default="c"), {"a": [find]}), "missing-arm", "the router can answer 'c', which has no arm; add it, or else"),
        (branch({}, merge={"passages": join}), "no-arms", "branch needs at least one arm"),
        (branch({"a": [find]}, merge={}), "missing-merge", "branch needs merge: nothing of its arms survives"),
        (branch({"a": [find], "b": [complete]}, merge={"passages": join}), "unknown-variable", "merge of 'passages': arm 'b' does not define it; known: completion"),
        (branch({"a": [step(find, out="x")], "b": [step(complete, out="x")]}, merge={"x": join}), "wrong-type", "merge of 'x': it is list[Passage] and Completion in different arms"),
        (branch({"a": [find]}, merge={"passages": first}), "wrong-type", "first cannot merge 'passages': no input takes list[list[Passage]] (inputs: answers: list[Answer])"),
        (branch({"a": [find]}, merge={"passages": step(join, out="x")}), "misplaced-key", "merge of 'passages' writes 'passages', so it has no other output"),
        (branch({"a": [find]}, merge={"passages": step(join, when={"var": "query.text", "empty": True})}), "misplaced-key", "merge of 'passages' always runs, so it has no condition"),
        (branch({"a": [find]}, merge={"passages": step(join, inputs={"rankngs": "x"})}), "unknown-port", "join has no input 'rankngs'; did you mean 'rankings'?"),
    ],
)  # fmt: skip
def test_mistakes_of_route_and_branch(said, block, code, words_):
    assert (code, words_) in said(block)


def test_a_judgement_routes_to_yes_and_no(said):
    yes_only = route("judgement", {"yes": [words]})
    assert said(find, reply, judge, yes_only) == [
        ("missing-arm", "the router can answer 'no', which has no arm; add it, or else")
    ]
    assert said(find, reply, judge, route("judgement", {"yes": [words]}, otherwise=[words])) == []
    assert (
        said(find, reply, route(judge, {"yes": [words], "no": [words]}), outputs=("queries",)) == []
    )


def test_a_branch_keeps_only_what_it_merges(said):
    both = branch({"a": [find, complete], "b": [find, complete]}, merge={"passages": join})
    assert said(both, outputs=("passages",)) == []
    assert said(both, outputs=("completion",))[0][0] == "unknown-variable"


def test_after_several_arms_only_what_is_merged_is_defined(said):
    several = route(
        label, {"a": [find, words], "b": [find, words]}, policy="all", merge={"passages": join}
    )
    assert said(several, outputs=("passages",)) == []
    assert said(words, several, outputs=("queries",))[0][0] == "unknown-variable"


# --- map, loop and recurse -----------------------------------------------------------------

NOTHING = "nothing is collected, so nothing of it survives; give collect and into"


@pytest.mark.parametrize(
    ("block", "code", "words_"),
    [
        (map("queris", "q", [find], collect={"passages": "r"}), "unknown-variable", "over 'queris' is no variable here; did you mean 'queries'?"),
        (map("query", "q", [find], collect={"passages": "r"}), "wrong-type", "over 'query' wants a list, but it is Query"),
        (map("queries", "q", [find], collect={"passages": "r"}), "unread", "map binds 'q' but no step reads it (steps read: query)"),
        (map("queries", "q", [], collect={"q": "r"}), "unread", "map binds 'q' but no step reads it (steps read: nothing)"),
        (map("queries", "query", [find], collect={"pasages": "r"}), "unknown-variable", "collect 'pasages' is no variable inside; did you mean 'passages'?"),
        (map("queries", "query", [find], collect={}), "missing-key", NOTHING),
        (map("queries", "query", [find], collect={"passages": "r"}, max_parallel=0), "out-of-range", "map.max_parallel must be at least 1, got 0"),
        (map("queries", "query", [step(complete, inputs={"query": "queries"})], collect={"completion": "r"}), "wrong-type", "complete.query wants Query, but 'queries' is list[Query]; bind one that fits: in: {query: query}"),
        (loop(0, [find]), "out-of-range", "loop.times must be at least 1, got 0"),
        (loop(2, [find], carry={"seek": "query"}), "unread", "carry 'seek' binds 'seek'"),
        (loop(2, [step(find, inputs={"query": "seek"})], carry={"seek": "query"}), "never-changes", "carry 'seek' never changes: no step in the loop writes 'seek' or 'query'"),
        (loop(2, [step(find, inputs={"query": "seek"}), step(find, out="seek")], carry={"seek": "query"}), "wrong-type", "carry 'seek' begins as Query and becomes list[Passage]"),
        (loop(2, [find, reply, step(judge, inputs={"previous": "last"})], carry={"last": "anwser"}), "unknown-variable", "carry 'last' begins as 'anwser', which no step before the loop defines; known: query, queries"),
        (loop(2, [find, reply], until=reply), "wrong-type", "reply_2 returns Answer, not Judgement, so it cannot judge"),
        (recurse("query", "node", [words], children="queries", max_depth=-1, max_nodes=0, collect={"queries": "all"}), "out-of-range", "recurse.max_depth must be at least 0, got -1"),
        (recurse("query", "node", [words], children="queries", max_depth=1, max_nodes=0, collect={"queries": "all"}), "out-of-range", "recurse.max_nodes must be at least 1, got 0"),
        (recurse("qery", "node", [words], children="queries", max_depth=1, max_nodes=1, collect={"queries": "all"}), "unknown-variable", "seed 'qery' is no variable here; did you mean 'query'?"),
        (recurse("query", "node", [words], children="queries", max_depth=1, max_nodes=1, collect={"queries": "all"}), "unread", "recurse binds 'node' but no step reads it (steps read: query)"),
        (recurse("query", "query", [find], children="passages", max_depth=1, max_nodes=1, collect={"passages": "all"}), "wrong-type", "children 'passages' must be list[Query], but it is list[Passage]"),
        (recurse("query", "query", [find], children="chidren", max_depth=1, max_nodes=1, collect={"passages": "all"}), "unknown-variable", "children 'chidren' is no variable inside; known: query, queries, passages"),
    ],
)  # fmt: skip
def test_mistakes_of_map_loop_and_recurse(said, block, code, words_):
    found = said(words, block)
    if "binds 'seek'" in words_:
        words_ = "carry binds 'seek' but no step reads it (steps read: query)"
    assert (code, words_) in found


def test_a_read_after_the_variable_was_overwritten_does_not_count(said):
    given = {"queries": "list[Query]", "other": "Query"}
    body = [
        step(complete, inputs={"query": "other"}, out="query"),
        step(complete, inputs={"query": "other"}),
    ]
    (unread,) = said(map("queries", "query", body, collect={"completion": "r"}), inputs=given)
    assert unread == ("unread", "map binds 'query' but no step reads it (steps read: other)")


def test_a_read_after_one_arm_may_have_overwritten_it_counts(said):
    maybe = route(
        step(label, inputs={"query": "other"}),
        {"a": [step(as_query)]},
        otherwise=[step(label, inputs={"query": "other"})],
    )
    given = {"queries": "list[Query]", "other": "Query", "answer": "Answer"}
    block = map("queries", "query", [maybe, find], collect={"passages": "r"})
    assert said(block, inputs=given) == []


def test_what_an_inner_block_binds_is_no_read_of_the_outer_variable(said):
    inner = map("queries", "query", [find], collect={"passages": "rankings"})
    outer = loop(
        2,
        [
            inner,
            join,
            step(complete, inputs={"query": "other"}),
            step(as_query, inputs={"answer": "a"}),
        ],
        carry={"query": "other"},
    )
    given = {"queries": "list[Query]", "other": "Query", "a": "Answer"}
    assert [code for code, _ in said(outer, inputs=given)] == ["unread"]


def test_until_reads_count(said):
    rounds = loop(2, [find, reply], carry={"previous": "answer"}, until=judge)
    assert said(rounds, outputs=("answer", "previous")) == []


def test_a_carried_variable_is_none_in_the_first_round_where_nothing_defines_it(said):
    rounds = loop(2, [find, reply, step(must_judge)], carry={"previous": "answer"})
    assert said(rounds) == [
        (
            "wrong-type",
            "must_judge.previous wants Answer, but 'previous' is Answer | None; bind one that fits: in: {previous: answer}",
        )
    ]
    assert said(find, reply, rounds) == []


def test_a_variable_that_a_loop_leaves_in_doubt_is_gone_after_it(said):
    doubt = route(label, {"a": [step(complete, out="passages")], "b": [words]})
    assert said(find, loop(2, [doubt]), outputs=("passages",))[0][0] == "unknown-variable"


def test_deep_nesting_of_loops_is_checked_in_time(said):
    body = [find, reply, judge]
    for depth in range(12):
        body = [loop(2, body, carry={f"p{depth}": "answer"})]
    assert len(said(*body)) >= 12


# --- nested pipelines and resources --------------------------------------------------------


def inner(*steps, **more):
    return Definition(name="inner", steps=steps, **more)


def test_a_nested_pipeline_gives_its_outputs_only(said):
    block = nested(inner(step(find), step(reply)))
    assert said(block, outputs=("answer",)) == []
    assert said(block, outputs=("passages",))[0][0] == "unknown-variable"


@pytest.mark.parametrize(
    ("more", "code", "words_"),
    [
        ({"inputs": {"qury": "query"}}, "unknown-port", "pipeline 'inner' has no input 'qury'; did you mean 'query'?"),
        ({"inputs": {"query": "qury"}}, "unknown-variable", "inner.query reads 'qury', which no step before it defines; did you mean 'query'?"),
        ({"outputs": {"anwser": "x"}}, "unknown-variable", "pipeline 'inner' has no output 'anwser'; did you mean 'answer'?"),
        ({"inputs": {"query": "n"}}, "wrong-type", "inner.query wants Query, but 'n' is int; bind one that fits: in: {query: query}"),
    ],
)  # fmt: skip
def test_mistakes_around_a_nested_pipeline(said, more, code, words_):
    assert (code, words_) in said(
        step(number, out="n"), nested(inner(step(find), step(reply)), **more)
    )


def test_mistakes_inside_a_nested_pipeline_are_said(said):
    assert [code for code, _ in said(nested(inner(step("find.nothing"))))] == [
        "unknown-operator",
        "unknown-variable",
    ]


def test_what_a_nested_pipeline_needs_the_outer_one_needs(pipeline):
    checked = pipeline(nested(inner(step("generate.write")), id="sub")).checked
    assert checked.needed == {"lm": ["sub/generate"]}
    own = inner(step("generate.write"), resources={"lm": ResourceUse(use="lm.tiny")})
    assert pipeline(nested(own)).checked.needed == {}


@pytest.mark.parametrize(
    ("resources", "code", "words_"),
    [
        ({"lm": ResourceUse(use="lm.tny")}, "unknown-resource", "no resource 'lm.tny'; did you mean 'lm.tiny'?"),
        ({"lm": ResourceUse(use="lm.tiny", options={"nam": 1})}, "unknown-option", "lm.tiny has no option 'nam'; did you mean 'name'?"),
        ({"lm": ResourceUse(use="lm.tiny", options={"name": 1})}, "wrong-type", "lm.tiny.name wants str, got 1"),
        ({"lm": ResourceUse(use="kv.tiny")}, "wrong-type", "generate.write.lm wants a resource of kind lm, but 'lm' is kv.tiny"),
    ],
)  # fmt: skip
def test_mistakes_of_resources(said, resources, code, words_):
    assert (code, words_) in said("generate.write", resources=resources)


def test_a_step_may_name_its_resource(said):
    resources = {"big": ResourceUse(use="lm.tiny"), "store": ResourceUse(use="kv.tiny")}
    assert said(step("generate.write", lm="big"), resources=resources) == []
    (wrong,) = said(step("generate.write", lm="store"), resources=resources)
    assert wrong[1] == "generate.write.lm wants a resource of kind lm, but 'store' is kv.tiny"


def test_a_resource_made_of_itself_is_a_mistake(shelf, said):
    from dataclasses import replace

    from pipelines.catalogue.spec import Need

    circular = replace(shelf.resources["lm.tiny"], needs=(Need("kv", "kv"),))
    back = replace(shelf.resources["kv.tiny"], needs=(Need("lm", "lm"),))
    catalogue = replace(shelf, resources={"lm.tiny": circular, "kv.tiny": back})
    resources = {"lm": ResourceUse(use="lm.tiny"), "kv": ResourceUse(use="kv.tiny")}
    assert [words_ for _, words_ in said(words, resources=resources, catalogue=catalogue)] == [
        "the resource 'lm' is made of itself",
        "the resource 'kv' is made of itself",
    ]


def test_a_missing_extra_names_its_install_command(shelf, said):
    from dataclasses import replace

    wants = replace(shelf.operators["query.words"], extra="nothing_like_it")
    catalogue = replace(shelf, operators={"query.words": wants})
    assert said("query.words", catalogue=catalogue) == [
        (
            "missing-extra",
            "query.words needs the extra 'nothing_like_it', which is not installed; pip install 'dovetail-rag[nothing_like_it]'",
        )
    ]
