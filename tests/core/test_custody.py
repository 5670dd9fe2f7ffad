import pytest

from ccproxy_supervisor.core.custody import Seen, World, weak

US, BOB, OURS, STAFF = 501, 502, 501, 20
PEOPLE = {0: "root", US: "me", BOB: "bob"}
GROUPS = {OURS: ("me", []), STAFF: ("staff", ["bob", "eve", "ivy", "joe"]), 80: ("admin", ["bob"]), 0: ("wheel", [])}
PLACES = {
    "/": Seen(0, 0, 0o755, folder=True),
    "/home": Seen(0, 0, 0o755, folder=True),
    "/home/me": Seen(US, STAFF, 0o755, folder=True),
    "/home/me/h": Seen(US, OURS, 0o770, folder=True),
    "/home/me/h/config.yaml": Seen(US, STAFF, 0o644),
    "/tmp": Seen(0, 0, 0o1777, folder=True),
    "/tmp/mine": Seen(US, STAFF, 0o700, folder=True),
    "/tmp/bob": Seen(BOB, STAFF, 0o777, folder=True),
    "/opt": Seen(0, 0, 0o755, folder=True),
    "/opt/brew": Seen(US, 80, 0o775, folder=True),
    "/opt/brew/python": Seen(US, 80, 0o755),
    "/home/bob": Seen(BOB, STAFF, 0o755, folder=True),
}  # fmt: skip


def link(target, owner=US):
    return Seen(owner, STAFF, 0o777, target=target)


def found(path, **more):
    places = PLACES | {name.replace("__", "/"): seen for name, seen in more.items()}
    world = World(US, places.get, lambda user: PEOPLE[user], lambda group: GROUPS[group])
    return list(weak(path, world))


@pytest.mark.parametrize(
    "path",
    ["/home/me/h/config.yaml", "/home/me/h", "/tmp/mine", "/tmp/mine/none/at/all", "/home/../home/me/./h", "/nowhere"],
)
def test_what_only_we_and_root_can_change_is_good(path):
    assert found(path) == []


def test_a_folder_on_the_way_that_a_group_with_others_may_write_is_weak():
    assert found("/opt/brew/python") == [
        ("/opt/brew", "bob (group admin) could put something else there (mode 0775); run: chmod g-w '/opt/brew'")
    ]


def test_many_members_are_not_all_named_and_root_s_folders_need_sudo():
    [(place, why)] = found("/opt/x", __opt=Seen(0, STAFF, 0o775, folder=True))

    assert place == "/opt"
    assert why.startswith("bob, eve, ivy and others (group staff) could put something else there")
    assert why.endswith("run: sudo chmod g-w '/opt'")


def test_a_group_of_nobody_but_us_is_good():
    assert found("/home/me/h/x", __home__me__h__x=Seen(US, OURS, 0o664)) == []


def test_what_belongs_to_another_is_weak_though_sticky_or_closed():
    for path, places in {
        "/home/bob/h": {"__home__bob__h": Seen(US, OURS, 0o700, folder=True)},
        "/tmp/x": {"__tmp__x": Seen(BOB, OURS, 0o400)},
    }.items():
        [(place, why)] = found(path, **places)
        assert place in ("/home/bob", "/tmp/x")
        assert why.startswith("belongs to bob, who could put something else there; run: sudo chown -h me '")


def test_a_sticky_folder_is_good_to_pass_through_and_not_to_be_searched():
    assert found("/tmp/mine") == []
    assert found("/tmp") == [
        ("/tmp", "every user could put something else there (mode 1777); run: sudo chmod o-w '/tmp'")
    ]


def test_a_file_that_everybody_may_write_is_weak():
    [(place, why)] = found("/home/me/h/x", __home__me__h__x=Seen(US, STAFF, 0o666))

    assert place == "/home/me/h/x"
    assert why == "every user could put something else there (mode 0666); run: chmod go-w '/home/me/h/x'"


@pytest.mark.parametrize(
    ("links", "weak_at"),
    [
        ({"__home__me__l": link("h")}, []),
        ({"__home__me__l": link("../../opt/brew")}, ["/opt/brew"]),
        ({"__home__me__l": link("/tmp/bob/h"), "__tmp__bob__h": link("/home/me/h")}, ["/tmp/bob"]),
        ({"__home__me__l": link("/tmp/l"), "__tmp__l": link("/home/me/h")}, []),
        ({"__home__me__l": link("/tmp/l"), "__tmp__l": link("/home/me/h", BOB)}, ["/tmp/l"]),
        ({"__home__me__l": link("l")}, []),  # in circles: whoever opens it is told
    ],
)
def test_every_link_on_the_way_is_followed_and_judged(links, weak_at):
    assert [place for place, _ in found("/home/me/l/config.yaml", **links)] == weak_at
