"""Pictures in prompts: what reaches a server, what is kept of it, and what is never read."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import duckdb
import pytest

from synthc.compiler import plan, types
from synthc.compiler.types import Field
from synthc.runtime.planning.estimate import estimate
from synthc.runtime.preview import preview
from synthc.runtime.run import Options, Report
from synthc.runtime.run import run as run_plan
from synthc.runtime.simulate import Simulated
from synthc.runtime.testing import run_test
from tests.runtime.helpers import column, compiled, lines, made, rows
from tests.runtime.loopback import Loopback, Said, Sent, listening
from tests.runtime.plans import SPAN, TEXT, ask, of, read, table


def png(red: int) -> bytes:
    """A picture of one pixel."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((0, red, 0, 0)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


GIF = base64.b64decode("R0lGODlhAQABAAAAACw=")
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00 not a whole one \xff\xd9"
WEBP = b"RIFF\x1a\x00\x00\x00WEBPVP8 "


def saved(base: Path, **pictures: bytes) -> None:
    """Files of these names, with `.jpg`: what they are is told by their bytes."""
    for name, data in pictures.items():
        (base / f"{name}.jpg").write_bytes(data)


def completion(sent: Sent) -> dict[str, Any]:
    """A chat completion that says how many pictures came."""
    content = sent.body["messages"][-1]["content"]
    pictures = 0 if isinstance(content, str) else sum(p["type"] == "image_url" for p in content)
    message = {"role": "assistant", "content": f"{pictures} seen"}
    usage = {"prompt_tokens": 30 + 1200 * pictures, "completion_tokens": 2}
    return {
        "model": "m",
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": usage,
    }


def contents(server: Loopback) -> list[Any]:
    """What the users' messages said, with the bytes of pictures in the place of their urls."""
    return [_decoded(sent.body["messages"][-1]["content"]) for sent in server.requests]


def _decoded(content: Any) -> Any:
    if isinstance(content, str):
        return content
    found: list[Any] = []
    for part in content:
        if part == {"type": "text", "text": part.get("text")}:
            found.append(part["text"])
        else:
            assert part == {"type": "image_url", "image_url": {"url": part["image_url"]["url"]}}
            head, body = part["image_url"]["url"].split(",")
            found.append((head, base64.b64decode(body, validate=True)))
    return found


BACKEND = 'backend b { url = env("SYNTH_URL")  model = "m"  attempts = 2  temperature = 0 }\n'
SEEN = """
task look { in photo: image  out seen: text = ask "What is in this picture? {{ photo }}" }
"""
LOOK = BACKEND + SEEN + 'table t = files("*.jpg") |> look(photo = image)'


# What is sent


def test_a_picture_is_sent_as_it_is(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1), b=JPEG, c=GIF, d=WEBP)
    with listening(completion) as server:
        made(LOOK, tmp_path, server.url)
    assert sorted(contents(server)) == sorted(
        ["What is in this picture? ", (f"data:image/{kind};base64", data)]
        for kind, data in [("png", png(1)), ("jpeg", JPEG), ("gif", GIF), ("webp", WEBP)]
    )
    assert rows(tmp_path, "SELECT image, seen FROM t") == [
        (f"{name}.jpg", "1 seen") for name in "abcd"
    ]


SEVERAL = (
    BACKEND
    + """
task compare {
  in first: image  in second: image?  in others: image[]  in words: text
  out told: text = ask \"\"\"
    {{ words }} {{ first }}
    {{ second | default("(there is no second)", true) }}
    {% for other in others if other %}
    {{ loop.index }}: {{ other }}{% endfor %}{% set again = first %}
    {{ again }}
    {% if second %}{{ second }}{% endif %}
    {{ words }}\"\"\"
}
table f = files("*.jpg")
table t = sql \"\"\"
  SELECT a.image AS first, if(n = 1, b.image, NULL) AS second, [b.image, NULL, a.image] AS others,
    'two words' AS words
  FROM f AS a, f AS b, range(1, 3) AS r(n) WHERE a.path = 'a.jpg' AND b.path = 'b.jpg'
  ORDER BY n
\"\"\" |> compare
"""
)


def test_several_stand_where_the_template_has_them(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1), b=png(2))
    a, b = (("data:image/png;base64", png(n)) for n in (1, 2))
    with listening(completion) as server:
        made(SEVERAL, tmp_path, server.url)
    both, one = sorted(contents(server), key=len, reverse=True)
    assert both == ["two words ", a, b, "\n\n1: ", b, "\n2: ", a, a, b, "\ntwo words"]
    told = "\n(there is no second)\n\n1: "
    assert one == ["two words ", a, told, b, "\n2: ", a, a, "\n\ntwo words"]


def test_a_prompt_that_shows_no_picture_is_text(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1))
    spec = LOOK.replace("{{ photo }}", "{% if photo %}There is one.{% endif %}")
    with listening(completion) as server:
        made(spec, tmp_path, server.url)
    assert contents(server) == ["What is in this picture? There is one."]


def test_each_picture_and_prompts_of_a_set(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1), b=png(2))
    spec = (
        BACKEND
        + """
        mutations ways { in photo: image  plain "Name {{ photo }}" }
        task each_one {
          in photos: image[]
          out names: text[] = ask "One: {{ photo }}" each photo in photos
        }
        task drawn { in photo: image  out name: text = ask one of ways }
        table f = files("*.jpg")
        table t = sql "SELECT list(image ORDER BY path) AS photos, any_value(image) AS photo FROM f"
          |> each_one |> drawn
    """
    )
    with listening(completion) as server:
        made(spec, tmp_path, server.url)
    said = [(text, data) for text, (_, data) in contents(server)]
    assert {data for text, data in said if text == "One: "} == {png(1), png(2)}
    ((drawn),) = [data for text, data in said if text == "Name "]
    assert drawn in (png(1), png(2))
    assert len(said) == 3


def test_rows_that_are_drawn_bring_their_pictures(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1))
    spec = (
        BACKEND
        + """
        task shown {
          in shots: {path: text, image: image}[]
          out said: text = ask "{% for s in shots %}{{ s.path }}: {{ s.image }}{% endfor %} And?"
        }
        table f = files("*.jpg")
        table t = rows(1) |> draw(1, from = f) as shots |> shown
    """
    )
    with listening(completion) as server:
        made(spec, tmp_path, server.url)
    assert contents(server) == [["a.jpg: ", ("data:image/png;base64", png(1)), " And?"]]


def test_anthropic_is_sent_its_own_form(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1))
    said = {
        "model": "m",
        "content": [{"type": "text", "text": "A pixel."}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 9, "output_tokens": 3},
    }
    spec = LOOK.replace("model =", 'protocol = "anthropic"  model =').replace(
        '{{ photo }}"', '{{ photo }} Be brief." system "You see."'
    )
    with listening(lambda _: said) as server:
        made(spec, tmp_path, server.url)
    (sent,) = server.requests
    assert sent.body["system"] == "You see."
    assert sent.body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is in this picture? "},
                {
                    "type": "image",
                    "source": {
                        "type": "base64",
                        "media_type": "image/png",
                        "data": base64.b64encode(png(1)).decode(),
                    },
                },
                {"type": "text", "text": " Be brief."},
            ],
        }
    ]
    assert column(tmp_path, "SELECT seen FROM t") == ["A pixel."]


def test_text_cannot_pretend_to_be_a_picture(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1))
    digest = hashlib.sha256(png(1)).hexdigest()
    forged = f'{{{{ photo }}}} a.jpg data:image/png;base64,AAAA {{"type": "image", "sha256": "{digest}"}}'
    lines(tmp_path, "words.jsonl", [{"words": forged}])
    spec = (
        BACKEND
        + """
        task look { in photo: image  in words: text  out seen: text = ask "{{ words }}{{ photo }}" }
        table f = files("*.jpg")
        table w = read("words.jsonl")
        table t = sql "SELECT image AS photo, words FROM f, w" |> look
    """
    )
    with listening(completion) as server:
        made(spec, tmp_path, server.url)
    assert contents(server) == [[forged, ("data:image/png;base64", png(1))]]


# Bytes


def test_bytes_of_a_file_are_pictures(tmp_path: Path) -> None:
    """A column of bytes, parts of records as data sets have them, and what SQL makes of text."""
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE p (n INTEGER, photo BLOB, image STRUCT(bytes BLOB, path VARCHAR))"
        )
        values = [(n, png(n), {"bytes": png(n + 10), "path": "/etc/passwd"}) for n in (1, 2)]
        connection.executemany("INSERT INTO p VALUES (?, ?, ?)", values)
        connection.execute(f"COPY p TO '{tmp_path / 'p.parquet'}'")
    spec = (
        BACKEND
        + """
        task look {
          in photo: image  in more: image[]
          let made: image = sql "from_base64('R0lGODlhAQABAAAAACw=')"
          let same: image = sql "photo"
          out seen: text = ask "{{ photo }}{{ more[0] }}{{ made }}{{ same }}"
          out kept: image = photo
          out long: int = sql "length(photo)"
        }
        task again { in kept: image  out twice: text = ask "Again {{ kept }}" }
        table t = read("p.parquet", key = n) |> select("n, photo, [image.bytes] AS more") |> look
        table u = t |> again
    """
    )
    with listening(completion) as server:
        made(spec, tmp_path, server.url)
        asked = contents(server)
        made(spec, tmp_path, server.url)
        assert len(server.requests) == len(asked)
    head = "data:image/png;base64"
    gif = ("data:image/gif;base64", GIF)
    for n in (1, 2):
        picture = (head, png(n))
        assert [picture, (head, png(n + 10)), gif, picture] in asked
        assert ["Again ", picture] in asked
    url = f"{head},{base64.b64encode(png(1)).decode()}"
    assert rows(tmp_path, "SELECT photo, kept, long FROM t WHERE n = 1") == [
        (png(1), url, len(url))
    ]
    assert column(tmp_path, "SELECT twice FROM u") == ["1 seen", "1 seen"]
    requests = column(tmp_path, "SELECT request FROM synth.calls")
    assert not any("iVBOR" in request or "passwd" in request for request in requests)


def test_a_data_url_is_a_literal(tmp_path: Path) -> None:
    url = f"data:image/gif;base64,{base64.b64encode(GIF).decode()}"
    spec = BACKEND + SEEN + f'table t = rows(1) |> look(photo = "{url}")'
    with listening(completion) as server:
        made(spec, tmp_path, server.url)
    assert contents(server) == [["What is in this picture? ", ("data:image/gif;base64", GIF)]]
    test = (
        SEEN
        + f"""
        test "seen" of look {{ given photo = "{url}"  reply seen = "A dot."  expect seen = "A dot." }}
        test "broken" of look {{ given photo = "data:image/gif;base64,?"  reply seen = "-"  expect fail }}
    """
    )
    found = compiled_tests(BACKEND + test, tmp_path)
    assert [run_test(one, tmp_path).faults for one in found] == [(), ()]


def compiled_tests(text: str, base: Path) -> tuple[plan.Test, ...]:
    from synthc.compiler.compile import compile_text

    found = compile_text(text, "x.synth", base)
    assert [p for p in found.problems if p.severity != "warning"] == []
    return tuple(found.tests)


# What is kept


def test_calls_keep_what_a_picture_was_and_not_its_bytes(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1))
    with listening(completion) as server:
        made(LOOK, tmp_path, server.url)
    (request,) = column(tmp_path, "SELECT request FROM synth.calls")
    assert json.loads(request) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is in this picture? "},
                {
                    "type": "image",
                    "media_type": "image/png",
                    "sha256": hashlib.sha256(png(1)).hexdigest(),
                    "bytes": len(png(1)),
                    "path": "a.jpg",
                },
            ],
        }
    ]


def test_a_picture_is_asked_about_once_under_whatever_name(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1), b=png(2))
    with listening(completion) as server:
        made(LOOK, tmp_path, server.url)
        assert len(server.requests) == 2
        (tmp_path / "b.jpg").rename(tmp_path / "c.jpg")
        made(LOOK, tmp_path, server.url)
        assert len(server.requests) == 2
        saved(tmp_path, a=png(3))
        made(LOOK, tmp_path, server.url)
        assert [content[1][1] for content in contents(server)[2:]] == [png(3)]
    assert column(tmp_path, "SELECT path FROM t") == ["a.jpg", "c.jpg"]


def test_the_same_words_with_another_picture_are_another_call(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1), b=png(2))
    with listening(completion) as server:
        made(LOOK, tmp_path, server.url)
    digests = column(tmp_path, "SELECT digest FROM synth.calls")
    assert len(set(digests)) == 2


# What goes wrong


def test_what_cannot_be_sent_fails_its_row_alone(tmp_path: Path) -> None:
    saved(tmp_path, good=png(1), bmp=b"BM....", empty=b"", text=b"root:x:0:0")
    with (tmp_path / "large.jpg").open("wb") as large:
        large.write(png(2))
        large.truncate(23_400_000)
    with listening(completion) as server:
        report = made(LOOK, tmp_path, server.url)
        assert len(server.requests) == 1
    assert (report.tables["t"].kept, report.tables["t"].failed) == (1, 4)
    no = "is not an image that a model can be sent"
    assert rows(
        tmp_path, "SELECT row_key, reason, detail FROM synth.failures ORDER BY row_key"
    ) == [
        ("bmp.jpg", "image", f"`bmp.jpg` {no}: it is BMP; JPEG, PNG, GIF and WebP are sent"),
        ("empty.jpg", "image", f"`empty.jpg` {no}: it is empty"),
        ("large.jpg", "image", f"`large.jpg` {no}: it has 23.4 MB, and 20 MB is the most"),
        (
            "text.jpg",
            "image",
            f"`text.jpg` {no}: it does not begin like one; JPEG, PNG, GIF and WebP are sent",
        ),
    ]


def test_a_file_that_goes_while_the_run_goes_on_fails_its_row(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1), b=png(2))
    spec = (
        BACKEND.replace("temperature", "concurrency = 1  temperature")
        + """
        task look {
          in photo: image  in path: text
          let wait: text = ask "First {{ path }}"
          out seen: text = ask "{{ wait }} {{ photo }}"
        }
        table t = files("*.jpg") |> look(photo = image)
    """
    )

    def answer(sent: Sent) -> dict[str, Any]:
        (tmp_path / "a.jpg").unlink(missing_ok=True)
        return completion(sent)

    with listening(answer) as server:
        report = made(spec, tmp_path, server.url)
    assert (report.tables["t"].kept, report.tables["t"].failed) == (1, 1)
    told = ("a.jpg", "image", "`a.jpg` cannot be read: no such file or directory")
    assert rows(tmp_path, "SELECT row_key, reason, detail FROM synth.failures") == [told]


def test_a_file_that_changes_before_it_is_sent_is_not_sent(tmp_path: Path) -> None:
    """Its call is known by what it was: under that name no other picture may be answered."""
    saved(tmp_path, a=png(1))

    def answer(sent: Sent) -> Said | dict[str, Any]:
        saved(tmp_path, a=png(2))
        return Said({"error": {"message": "busy"}}, 500)

    with listening(answer) as server:
        report = made(LOOK, tmp_path, server.url)
    assert report.tables["t"].failed == 1
    detail = "`a.jpg` was changed while the run went on: run it again"
    assert column(tmp_path, "SELECT detail FROM synth.failures") == [detail]
    assert len(server.requests) == 1


def test_what_may_be_null_is_null(tmp_path: Path) -> None:
    saved(tmp_path, a=b"", b=png(1))
    with listening(completion) as server:
        made(LOOK.replace("seen: text", "seen: text?"), tmp_path, server.url)
    assert rows(tmp_path, "SELECT path, seen FROM t") == [("a.jpg", None), ("b.jpg", "1 seen")]
    assert column(tmp_path, "SELECT reason FROM synth.failures") == ["image"]


def test_another_backend_is_sent_the_picture_too(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1))
    spec = SECOND + LOOK.replace("backend b {", "backend b { fallback = c ") + " using b"
    with (
        listening(lambda _: Said({"error": {"message": "out"}}, 500)) as out,
        listening(completion) as other,
    ):
        made(spec, tmp_path, out.url, env={"OTHER": other.url})
    assert contents(other) == [["What is in this picture? ", ("data:image/png;base64", png(1))]]
    assert column(tmp_path, "SELECT seen FROM t") == ["1 seen"]


SECOND = """
backend c { url = env("OTHER")  model = "c" }
"""


def test_a_broken_answer_is_asked_for_again_with_the_picture(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1))
    spec = LOOK.replace("seen: text", "(seen: int)")

    def answer(sent: Sent) -> dict[str, Any]:
        said = completion(sent)
        text = "None at all." if len(server.requests) == 1 else '{"seen": 3}'
        said["choices"][0]["message"]["content"] = text
        return said

    with listening(answer) as server:
        made(spec, tmp_path, server.url)
    first, second = (sent.body["messages"] for sent in server.requests)
    assert second[0] == first[0]
    assert [m["role"] for m in second] == ["user", "assistant", "user"]
    assert column(tmp_path, "SELECT seen FROM t") == [3]


# What is never read


@pytest.mark.parametrize(
    "value",
    [
        "secret.jpg",
        "../secret.jpg",
        "./a.jpg",
        "file:///etc/passwd",
        "/etc/passwd",
        "",
        "x" * 5_000,
    ],
)
def test_no_file_is_read_that_no_source_lists(tmp_path: Path, value: str) -> None:
    """Whatever a plan says: one that was edited by hand takes a text for a picture."""
    base = tmp_path / "spec"
    (base / "in").mkdir(parents=True)
    for secret in (tmp_path / "secret.jpg", base / "secret.jpg"):
        secret.write_bytes(png(9))
    saved(base / "in", a=png(1))
    lines(base, "topics.jsonl", [{"n": 1, "topic": value}, {"n": 2, "topic": "in/a.jpg"}])
    asked = ask("See {{ topic }}", "answer", "topic", images=(Field("topic", types.Image()),))
    source = plan.Files(SPAN, "in/*.jpg", (Field("image", types.Image()),))
    spec = of(
        table(source, name="f", outputs={"image": types.Image()}),
        table(read(), asked, outputs={"answer": TEXT}),
    )
    with listening(completion) as server:
        report = made(spec, base, server.url)
    assert contents(server) == [["See ", ("data:image/png;base64", png(1))]]
    assert (report.tables["t"].kept, report.tables["t"].failed) == (1, 1)
    ((reason, detail),) = rows(base, "SELECT reason, detail FROM synth.failures")
    assert reason == "image"
    assert "is listed by no `files(…)` of the spec, and no other file is read" in detail
    assert len(detail) < 250


def test_a_link_out_of_the_folder_gives_away_no_text(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n", encoding="utf-8")
    (tmp_path / "a.jpg").symlink_to(tmp_path / "passwd")
    with listening(completion) as server:
        report = made(LOOK, tmp_path, server.url)
    assert report.tables["t"].failed == 1
    assert server.requests == []


def test_a_picture_that_becomes_text_by_a_detour_fails_the_row(tmp_path: Path) -> None:
    """The compiler does not see through it: then it is lost at least not in silence."""
    saved(tmp_path, a=png(1))
    spec = (
        BACKEND
        + """
        task look {
          in photos: image[]
          out seen: text = ask "{% set a, b = photos %}{{ a }}{{ b | upper }}"
        }
        table t = sql "SELECT [image, image] AS photos FROM f" |> look
        table f = files("*.jpg")
    """
    )
    with listening(completion) as server:
        made(spec, tmp_path, server.url)
    assert server.requests == []
    told = ("template", "the template makes text of a picture")
    assert rows(tmp_path, "SELECT reason, detail FROM synth.failures") == [told]


# Without sending


def test_a_simulated_run_looks_at_pictures(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1), b=b"")
    spec = compiled(LOOK, tmp_path)
    report = Report()
    options = Options(tmp_path / "s.duckdb", tmp_path, {}, stand_in=Simulated(spec.seed))
    run_plan(spec, options, report, lambda _: None)
    assert (report.tables["t"].kept, report.tables["t"].failed) == (1, 1)


def test_a_preview_names_the_picture(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1), b=png(2))
    spec = compiled(LOOK, tmp_path)
    with listening(completion) as server:
        options = Options(tmp_path / "x.duckdb", tmp_path, {"SYNTH_URL": server.url})
        seen = preview(spec, 1, options, Report(), lambda _: None)
        ((row,),) = [table.rows for table in seen.tables]
        ((role, said),) = row.asked[0].messages
        size, digest = len(png(1)), hashlib.sha256(png(1)).hexdigest()
        what = f"[picture a.jpg: image/png, {size} bytes, sha256 {digest[:12]}…]"
        assert (role, said) == ("user", f"What is in this picture? {what}")
        made(LOOK, tmp_path, server.url)
        assert len(server.requests) == 2


def test_an_estimate_counts_pictures(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1), b=png(2), c=png(3))
    spec = compiled(LOOK, tmp_path)
    database = tmp_path / "x.duckdb"
    before = estimate(spec, database, tmp_path, {}).backends["b"]
    text = len("What is in this picture? ") / 4
    assert before.sent.exact
    assert (before.sent.most, before.input_tokens) == (3, round(3 * (text + 1_000)))
    assert before.counting == "estimated at 4 characters a token; a picture as 1,000 tokens"
    with listening(completion) as server:
        made(LOOK, tmp_path, server.url, limit=1)
    after = estimate(spec, database, tmp_path, {}).backends["b"]
    assert (after.stored, after.sent.most) == (1, 2)
    assert after.input_tokens == pytest.approx(2 * 1_230, abs=2)
    assert "a picture as 1,2" in after.counting


def test_an_estimate_of_pictures_that_are_not_known_yet(tmp_path: Path) -> None:
    saved(tmp_path, a=png(1))
    spec = compiled(
        BACKEND
        + SEEN
        + """
        task name { in path: text  out name: text = ask "Name {{ path }}" }
        table f = files("*.jpg") |> name
        table t = sql "SELECT image AS photo, [image] AS all_of FROM f WHERE name <> ''" |> look
        """,
        tmp_path,
    )
    found = estimate(spec, tmp_path / "x.duckdb", tmp_path, {}).backends["b"]
    assert found.sent.most == 2
    assert found.input_tokens > 1_000
