"""docs/params.md lists the params as they are."""

import re

from tests.documents import Document
from trainer import Params

TEXT = Document("docs/params.md").text


def test_every_param_is_listed_with_its_description() -> None:
    """The table has one row per param, in order, with the description that `params` prints."""
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (.*) \|$", TEXT, re.MULTILINE)
    first = rows.index(next(row for row in rows if row[0] == next(iter(Params.model_fields))))
    listed = rows[first : first + len(Params.model_fields)]
    assert listed == [(key, field.description) for key, field in Params.model_fields.items()]
