"""The page itself: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; color: #30343b; max-width: 62rem;
         margin: 2rem auto; padding: 0 1rem; }
  h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #d5d8dd; }
  img, video { max-width: 100%; display: block; margin: 1rem 0; }
  table { border-collapse: collapse; margin: 1rem 0; font-size: 14px; }
  td, th { padding: .15rem .9rem .15rem 0; text-align: left; border-bottom: 1px solid #eceef1; }
  td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
  code { background: #f2f3f5; padding: .1rem .3rem; border-radius: 3px; }
  .missing { background: #fff6e0; border-left: 4px solid #e0a100; padding: .3rem 1rem; }
  .wrong { background: #fdeceb; border-left: 4px solid #b3261e; padding: .3rem 1rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ subtitle }}</p>
{% for sentence in wrong %}<p class="wrong">{{ sentence }}</p>
{% endfor %}
{% for note in missing %}
<p class="missing">{{ note.what }}{% if note.command %}: <code>{{ note.command }}</code>
{% endif %}</p>
{% endfor %}
{% for section in sections %}
<h2>{{ section.title }}</h2>
{% if section.text %}<p>{{ section.text }}</p>{% endif %}
{% if section.video %}<video controls muted playsinline src="{{ section.video }}"></video>
{% endif %}
{% for picture in section.pictures %}<img alt="{{ section.title }}" src="{{ picture }}">
{% endfor %}
{% if section.rows %}<table>
{% if section.columns %}<tr>
{% for name in section.columns %}<th{% if not loop.first %} class="number"{% endif %}>{{ name }}
</th>{% endfor %}</tr>{% endif %}
{% for row in section.rows %}<tr>
{% for cell in row %}<td{% if section.columns and not loop.first %} class="number"{% endif %}>
{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endif %}
{% endfor %}
</body>
</html>
"""


@dataclass(frozen=True)
class Note:
    """Something that is not there, and the command that makes it."""

    what: str
    command: str = ""


@dataclass
class Section:
    """A heading and what stands under it; what is empty is left out."""

    title: str
    text: str = ""
    columns: list[str] = field(default_factory=list)
    """Heads of a table of figures; without them, rows are names and values."""
    rows: list[list[str]] = field(default_factory=list)
    pictures: list[Markup] = field(default_factory=list)
    video: Markup | None = None


def inline(data: bytes, kind: str) -> Markup:
    """A file as a link that carries it; `kind` is its media type, such as image/png."""
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode()}")


def html(**parts: Any) -> str:
    """The page: title, subtitle, wrong, missing, sections. Whatever they say is escaped."""
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return jinja.from_string(TEMPLATE).render(**parts)
