from __future__ import annotations

import pytest

from schemas.errors import ConfigError
from tests.readme_commands import README, readme_commands

TEXT = """# Title

<!-- run: demo -->
```sh
first \\
  --with-more
second
```

```sh
never run
```

<!-- run: test -->
```sh
third
```
"""


def test_each_mark_names_the_block_right_below_it() -> None:
    expected = {"demo": "first \\\n  --with-more\nsecond\n", "test": "third\n"}

    assert expected == readme_commands(TEXT)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<!-- run: demo -->\n\n```sh\nlate\n```\n", "no ```sh block"),
        ("<!-- run: demo -->\n```python\nother\n```\n", "no ```sh block"),
        ("<!-- run: demo -->\n```sh\n```\n", "no ```sh block"),
        ("<!-- run: demo -->\n```sh\na\n```\n<!-- run: demo -->\n```sh\nb\n```\n", "two marks"),
    ],
)
def test_a_mark_that_names_no_single_block_is_an_error(text: str, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        readme_commands(text)


def test_the_readme_has_the_two_commands_that_ci_runs() -> None:
    assert {"demo", "test"} <= set(readme_commands(README.read_text(encoding="utf-8")))
