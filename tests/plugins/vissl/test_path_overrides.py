"""Which word is blamed behind a path: only what nobody has quoted may be parted by the shell."""

from __future__ import annotations

import pytest

pytest.importorskip("vissl")

from vice.errors import UserError
from vice.plugins.vissl.config.compose import compose
from vice.plugins.vissl.config.path_overrides import PATHS, literal_paths
from vice.runtime.overrides import quote

#: Paths that quoting has to do something about, too.
NAMES = ("/x/plain", "/x/my photos", "/x/it's", "/x/'\"", "/x/back\\", "/x/${a}", "/x/a=b,c")
ONE = [name for name, key in PATHS.items() if not key.several]


@pytest.mark.parametrize("key", ONE)
@pytest.mark.parametrize("name", NAMES)
def test_a_quoted_path_is_not_blamed_for_the_word_behind_it(key, name, tmp_path):
    given = [f"{key}={quote(tmp_path.as_posix() + name)}", "nonsense"]
    assert literal_paths(given)[1] == "nonsense"
    with pytest.raises(UserError, match=r"^nonsense: must be KEY=VALUE"):
        compose(["config=vice/folder", *given])


@pytest.mark.parametrize("key", ONE)
def test_a_path_that_the_shell_has_parted_is(key):
    with pytest.raises(UserError, match="the shell parts it at its spaces"):
        literal_paths([f"{key}=/x/my", "photos"])
