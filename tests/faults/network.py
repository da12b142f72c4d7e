"""What lies between a task and the Platform: requests and responses, which may be lost, late, doubled or false."""

from __future__ import annotations

import json
from dataclasses import dataclass

from airflow_sb_provider.api.replies import read_reply
from airflow_sb_provider.exceptions import SevenBridgesConnectionError, SevenBridgesError
from airflow_sb_provider.hooks.connection import ConnectionSettings, Secret
from airflow_sb_provider.hooks.retry import clean, fail
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from tests.faults.airflow import SimProcess
from tests.faults.platform import Look, Sent, Violation, error
from tests.faults.weakenings import GATEWAY

MAX_POSTS = 4
MAX_REQUESTS = 50
CREATE = "bulk/storage/exports/create"
PAGE_OF_A_GATEWAY = b"<html>Bad Gateway</html>"


@dataclass(frozen=True)
class Fate:
    """What becomes of a submission.

    :param done: how many of its exports are accepted: all, half or none.
    :param rest: when the others arrive: never, late, or too late.
    :param answer: what its sender sees.
    """

    done: str = "all"
    answer: str = "true"
    rest: str = "never"


FATES = {
    "requests do not arrive": [Fate("none", "unsent")],
    "responses are lost": [Fate("all", "lost"), Fate("none", "lost"), Fate("half", "lost")],
    "requests arrive late": [Fate("none", "lost", "late"), Fate("half", "lost", "late")],
    "requests arrive later than any bound": [Fate("none", "lost", "too late")],
    "requests are delivered twice": [Fate("twice"), Fate("twice", "lost")],
    "maintenance is a lie": [Fate("all", "maintenance")],
    "a rejection is a lie": [Fate("all", "malformed")],
    "calls are rejected as a whole": [
        Fate("none", "maintenance"),
        Fate("none", "rejected"),
        Fate("none", "rate limit"),
    ],
    "workers die": [Fate("all", "killed"), Fate("none", "killed"), Fate("none", "killed", "late")],
    "bulk answers are in disorder": [Fate("all", "short"), Fate("all", "swapped"), Fate("all", "brief and shuffled")],
    "items are in trouble": [Fate("all", "an item in trouble"), Fate("all", "no item"), Fate("all", "no state")],
}
_WITHOUT_RESPONSE = ("lost", "killed")
_REJECTED = {"maintenance": 0, "malformed": 9011, "rejected": 9000, "rate limit": 1000}


class SimHook(SevenBridgesHook):
    """The real hook with the simulated Platform instead of the network."""

    settings = ConnectionSettings("https://sim/v2", Secret("token"), gateway_timeout=GATEWAY)

    def __init__(self, process):
        super().__init__("sim")
        self._process = process
        self._failure = None

    @property
    def log(self):
        return self._process.log

    def reconnect(self):
        """Nothing to look up."""

    def send(self, call, *, retry=True):
        # Most succeed at once, and what the real method does for them costs more than all the rest.
        try:
            return self._send_once(call)
        except SevenBridgesError as failure:
            if not retry:
                raise
            self._failure = failure
        return super().send(call, retry=retry)

    def _send_once(self, call):
        if self._failure:
            failure, self._failure = self._failure, None
            raise failure
        try:
            status, body, headers = self._process.request(call)
            self.clock.update(headers)
            return clean(call, self._read(call, status, body, headers), self.settings.mask)
        except SevenBridgesError as failure:
            problem = failure
        fail(call, problem, self.settings.mask)

    def _read(self, call, status, body, headers):
        if status == 200:
            try:
                return call.read(body, headers)
            except ValueError:
                pass
        return read_reply(call, status, headers, body if isinstance(body, bytes) else json.dumps(body).encode())


class Process(SimProcess):
    """A process whose requests go through the simulated network."""

    hook_class = SimHook

    def __init__(self, *given):
        super().__init__(*given)
        self.listed_at = self.files_read_at = 0.0
        self.objects_seen: dict[tuple[str, str], tuple[float, bool]] = {}

    def request(self, call):
        """Return status, body and headers of a response."""
        platform = self.world.platform
        self.give_way()
        if platform.now > call.send_by:
            # The hook does not send the body any more, so that the request is broken off.
            raise SevenBridgesConnectionError("broken off")
        query = dict(call.query)
        is_list = call.path == "storage/exports" and call.method == "GET"
        if not is_list and call.path != "bulk/storage/exports/get":
            self._count_request()
        if not call.idempotent:
            status, body, headers = self._submit(call, query.get("copy_only") == "true")
        elif trouble := self._read_trouble():
            status, body, headers = trouble
        else:
            if is_list and ("state", "PENDING") in call.query and query["offset"] == "0":
                self.listed_at = platform.now
            status, body, headers = platform.answer(call)
            if call.path.endswith("/object"):
                place = call.path[16:-7], query["location"]
                self.objects_seen[place] = platform.now, status == 200
            elif call.path == "bulk/files/get":
                self.files_read_at = platform.now
            elif call.path == "bulk/storage/exports/get":
                items = self.world.spoiled(body["items"])
                status, body = (404, error(9008)) if items is None else (200, {"items": items})
        self.note("%s %s%s: %s", call.method, call.path, _shown(query), status)
        headers |= platform.headers()
        self.give_way()
        return status, body, headers

    def _read_trouble(self):
        world, task = self.world, self.task
        if task.reads_fail_until > world.platform.now:
            status = task.reads_fail_with
        elif world.strike(0.04, "reads fail"):
            status = world.luck.choice([502, -502])
        else:
            return None
        if status < 0:
            return -status, PAGE_OF_A_GATEWAY, {}
        return status, {"status": status, "code": {401: 90001, 403: 90002}.get(status), "message": "trouble"}, {}

    def _submit(self, call, copy_only):
        world, platform, task = self.world, self.world.platform, self.task
        items = call.body["items"] if call.path == CREATE else [call.body]
        files = [item["source"]["file"] for item in items]
        weakening, fate = world.fate_of_submission(is_bulk=call.path == CREATE)
        self.note("submits %s: %s", files, fate)
        if fate.answer == "unsent":
            raise SevenBridgesConnectionError("refused", sent=False)
        self._count_submissions(files)
        if weakening:
            world.excuse(weakening, *files)
        sent = [self._sent(item, copy_only) for item in items]
        task.sent += sent
        done = {"none": 0, "half": len(items) // 2}.get(fate.done, len(items))
        answers = [platform.submit(each) for each in sent[:done]]
        if fate.done == "twice":
            for each in sent:
                platform.at(platform.now + world.luck.uniform(0, 20), "again", each)
        for each in sent[done:]:
            if fate.rest != "never":
                platform.send_late(each, world.luck.uniform(1, GATEWAY if fate.rest == "late" else 1000))
        if fate.answer == "killed":
            self.die()
        if fate.answer == "lost":
            if world.strike(0.5, "reads fail after a lost response"):
                task.reads_fail_until = platform.now + world.luck.uniform(10, 1200)
                task.reads_fail_with = world.luck.choice([401, 403, 502, -502])
            if world.luck.random() < 0.5:
                return 502, PAGE_OF_A_GATEWAY, {}
            raise SevenBridgesConnectionError("cut")
        if (code := _REJECTED.get(fate.answer)) is not None:
            body = error(code)
            for each in sent:
                each.is_denied = fate.answer == "malformed"
                each.is_rejected = fate.answer in ("rejected", "rate limit")
            return body["status"], body, {}
        return self._answer(call, sent, answers, fate.answer)

    def _answer(self, call, sent, answers, how):
        platform = self.world.platform
        for each, answer in zip(sent, answers, strict=True):
            each.answered = not isinstance(answer, int)
        if call.path != CREATE:
            [answer] = answers
            body = error(answer) if isinstance(answer, int) else platform.job_json(answer)
            if how == "no state":
                sent[0].answered = False
                body = {**body, "state": None}
            return (body["status"] if isinstance(answer, int) else 200), body, {}
        items = [
            {"error": error(each)} if isinstance(each, int) else {"resource": platform.job_json(each)}
            for each in answers
        ]
        number = self.world.luck.randrange(len(items))
        if how == "short":
            items.pop()
        elif how == "swapped":
            items[:2] = items[1::-1]
        elif how == "brief and shuffled":
            items = [
                {"resource": {"id": i["resource"]["id"], "state": "PENDING"}} if "resource" in i else i for i in items
            ]
            self.world.luck.shuffle(items)
        elif how in ("an item in trouble", "no item", "no state"):
            items[number] = {
                "an item in trouble": {"error": {"status": 500, "code": 90004, "message": "trouble"}},
                "no item": None,
                "no state": {"resource": {**items[number].get("resource", {}), "state": None}},
            }[how]
        if how not in ("true", "an item in trouble"):
            # Such an answer is not believed.
            for each in sent:
                each.answered = False
        elif how != "true":
            sent[number].answered = False
        return 200, {"items": items}, {}

    def _count_request(self):
        requests, world = self.task.requests, self.world
        requests[self.try_number] += 1
        for_each = requests[self.try_number] / len(self.task.wishes)
        world.most_requests = max(world.most_requests, for_each)
        if for_each > MAX_REQUESTS:
            raise Violation("I7", f"{self.name} sends more than {MAX_REQUESTS} requests for each export")

    def _count_submissions(self, files):
        posts, world = self.task.posts, self.world
        for file in files:
            posts[self.try_number, file] += 1
            world.most_posts = max(world.most_posts, posts[self.try_number, file])
            if posts[self.try_number, file] > MAX_POSTS:
                raise Violation("I7", f"{self.name} submits {file} more than {MAX_POSTS} times")

    def _sent(self, item, copy_only):
        place = item["destination"]["volume"], item["destination"]["location"]
        at, there = self.objects_seen.get(place, (0.0, False))
        look, task, now = Look(self.listed_at, at, there), self.task, self.world.platform.now
        sent = Sent(task.name, self.try_number, item["source"]["file"], copy_only, look, item, process=self, at=now)
        sent.by_the_dead = task.process is not self
        return sent


def _shown(query):
    return f" {query.get('state') or query.get('location')} {query.get('offset', '')}" if query else ""
