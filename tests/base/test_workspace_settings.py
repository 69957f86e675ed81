"""Settings: environment, then sampan.toml, then default; the workspace is found from below."""

import pytest

from sampan.base.errors import BadSetting, BadWorkspace, NotFound
from sampan.base.settings import SETTINGS, Folder, Settings, find_folder


def test_the_environment_wins_over_the_file_and_the_file_over_the_default():
    assert Settings({}, {}).get("port") == 7267
    assert Settings({"port": 1}, {}).get("port") == 1
    assert Settings({"port": 1}, {"SAMPAN_PORT": "2"}).get("port") == 2


def test_an_empty_variable_counts_as_not_set():
    assert Settings({"port": 1}, {"SAMPAN_PORT": ""}).get("port") == 1


def test_a_zero_in_the_file_is_a_value():
    assert Settings({"port": 0}, {}).get("port") == 0


@pytest.mark.parametrize(
    ("values", "environ", "where"),
    [
        ({"port": "x"}, {}, r"\[settings\] port"),
        ({}, {"SAMPAN_PORT": "x"}, "SAMPAN_PORT"),
        ({"port": []}, {}, r"\[settings\] port"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_where_it_stands(values, environ, where):
    with pytest.raises(BadSetting, match=f"Read {where}: .* is not a whole number"):
        Settings(values, environ).get("port")


def test_an_unknown_setting_is_named_with_those_that_there_are():
    with pytest.raises(BadSetting, match=r"unknown setting 'prot'\n  Known: .*port"):
        Settings({"prot": 1}, {})


def test_every_setting_has_help_and_a_name_in_the_environment():
    names = [setting.name for setting in SETTINGS]
    assert len(set(names)) == len(names)
    assert all(setting.help.endswith(".") and setting.env == f"SAMPAN_{setting.name.upper()}" for setting in SETTINGS)


def test_the_workspace_is_found_from_a_folder_inside_it(tmp_path):
    (tmp_path / "sampan.toml").write_text('[settings]\nport = 1\n[prices]\n"this machine" = 2.5\n')
    inside = tmp_path / "tables" / "deep"
    inside.mkdir(parents=True)
    found = find_folder(inside)
    assert found == Folder(tmp_path)
    assert found.data == tmp_path / ".sampan"
    assert found.settings().get("port") == 1
    assert found.config()["prices"] == {"this machine": 2.5}


def test_outside_of_a_workspace_the_next_step_is_told(tmp_path):
    with pytest.raises(NotFound, match=r"no sampan\.toml in .*\n  Run `sampan init NAME`"):
        find_folder(tmp_path)


@pytest.mark.parametrize(("content", "reason"), [(b"a = \n", "at line 1"), (b"\xff", "not UTF-8 text at byte 0")])
def test_a_sampan_toml_that_cannot_be_read_is_named_with_the_place(tmp_path, content, reason):
    (tmp_path / "sampan.toml").write_bytes(content)
    with pytest.raises(BadWorkspace, match=reason):
        Folder(tmp_path).config()
