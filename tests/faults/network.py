"""The simulated network: requests and responses may be lost, late, delivered twice or false."""

from __future__ import annotations

import json

from airflow_sb_provider.api.replies import read_reply
from airflow_sb_provider.exceptions import SevenBridgesConnectionError, SevenBridgesError
from airflow_sb_provider.hooks.connection import ConnectionSettings, Secret
from airflow_sb_provider.hooks.retry import clean, fail
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from tests.faults.airflow import SimProcess
from tests.faults.platform import Sent, Snapshot, Violation, error
from tests.faults.weakenings import GATEWAY

MAX_POSTS = 4
MAX_REQUESTS = 50
CREATE = "bulk/storage/exports/create"
POLLS = {"export": "bulk/storage/exports/get", "task": "bulk/tasks/get"}
PAGE_OF_A_GATEWAY = b"<html>Bad Gateway</html>"


_REJECTED = {"maintenance": 0, "malformed": 9011, "rejected": 9000, "rate limit": 1000}


class SimHook(SevenBridgesHook):
    """The real hook, connected to the simulated Platform."""

    settings = ConnectionSettings("https://sim/v2", Secret("token"), gateway_timeout=GATEWAY)

    def __init__(self, process):
        super().__init__("sim")
        self._process = process
        self._failure = None

    @property
    def log(self):
        return self._process.log

    def reconnect(self):
        """Do nothing: there is no connection to read again."""

    def send(self, call, *, retry=True):
        # Most calls succeed on the first attempt, and the real method would take most of the time of a schedule.
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
    """A process that sends its requests through the simulated network."""

    hook_class = SimHook

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.listed_at = self.files_read_at = 0.0
        self.objects_seen: dict[tuple[str, str], tuple[float, bool]] = {}

    def request(self, call):
        """Return status, body and headers of a response."""
        platform = self.world.platform
        self.yield_control()
        if platform.now > call.send_by:
            # The hook does not send the body after this time, so the request stays incomplete.
            raise SevenBridgesConnectionError("broken off")
        if not self.is_list(call) and call.path != POLLS[self.world.kind.name]:
            self._count_request()
        status, body, headers = self.respond(call)
        self.note("%s %s%s: %s", call.method, call.path, _shown(dict(call.query)), status)
        headers |= platform.headers()
        self.yield_control()
        return status, body, headers

    def is_list(self, call):
        """Whether a call reads a list of jobs."""
        return call.path == "storage/imports" or (call.path == "storage/exports" and call.method == "GET")

    def respond(self, call):
        """Return status, body and headers of a response, except its date."""
        platform, query = self.world.platform, dict(call.query)
        if not call.idempotent:
            return self._submit(call, query.get("copy_only") == "true")
        if trouble := self.failed_read():
            return trouble
        if self.is_list(call) and ("state", "PENDING") in call.query and query["offset"] == "0":
            self.listed_at = platform.now
        status, body, headers = platform.answer(call)
        if call.path.endswith("/object"):
            place = call.path[16:-7], query["location"]
            self.objects_seen[place] = platform.now, status == 200
        elif call.path == "bulk/files/get":
            self.files_read_at = platform.now
        return self.polled(call, status, body, headers)

    def polled(self, call, status, body, headers):
        """Return a response; of a poll, one that may be corrupted."""
        world = self.world
        if call.path == POLLS[world.kind.name]:
            items = world.corrupted(body["items"])
            status, body = (404, error(world.not_found)) if items is None else (200, {"items": items})
        return status, body, headers

    def failed_read(self):
        """Return the response to a read that fails now, if it does."""
        world, task = self.world, self.task
        if task.reads_fail_until > world.platform.now:
            status = task.reads_fail_with
        elif world.draw_fault(0.04, "reads fail"):
            status = world.luck.choice([502, -502])
        else:
            return None
        if status < 0:
            return -status, PAGE_OF_A_GATEWAY, {}
        return status, {"status": status, "code": {401: 90001, 403: 90002}.get(status), "message": "trouble"}, {}

    def _submit(self, call, copy_only):
        world = self.world
        items = call.body["items"] if call.path == CREATE else [call.body]
        files = [item["source"]["file"] for item in items]
        weakening, delivery = world.draw_delivery(is_bulk=call.path == CREATE)
        self.note("submits %s: %s", files, delivery)
        if delivery.answer == "unsent":
            raise SevenBridgesConnectionError("refused", sent=False)
        self.count_submissions(files)
        if weakening:
            world.weaken(weakening, *files)
        sent = [self._sent(item, copy_only) for item in items]
        answers, failure = self.deliver(sent, delivery)
        return failure or self._answer(call, sent, answers, delivery.answer)

    def deliver(self, sent, delivery):
        """Deliver requests; return what the Platform made of each, and the response if that does not say it."""
        world, platform, task = self.world, self.world.platform, self.task
        task.sent += sent
        done = {"none": 0, "half": len(sent) // 2}.get(delivery.done, len(sent))
        answers = [platform.submit(each) for each in sent[:done]]
        if delivery.done == "twice":
            for each in sent:
                platform.at(platform.now + world.luck.uniform(0, 20), "again", each)
        for each in sent[done:]:
            if delivery.rest != "never":
                platform.send_late(each, world.luck.uniform(1, GATEWAY if delivery.rest == "late" else 1000))
        if delivery.answer == "killed":
            self.die()
        if delivery.answer == "lost":
            if world.draw_fault(0.5, "reads fail after a lost response"):
                task.reads_fail_until = platform.now + world.luck.uniform(10, 1200)
                task.reads_fail_with = world.luck.choice([401, 403, 502, -502])
            if world.luck.random() < 0.5:
                return answers, (502, PAGE_OF_A_GATEWAY, {})
            raise SevenBridgesConnectionError("cut")
        if (code := _REJECTED.get(delivery.answer)) is not None:
            body = error(code)
            for each in sent:
                each.is_denied = delivery.answer == "malformed"
                each.is_rejected = delivery.answer in ("rejected", "rate limit")
            return answers, (body["status"], body, {})
        return answers, None

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
            # The task cannot trust such a response.
            for each in sent:
                each.answered = False
        elif how != "true":
            sent[number].answered = False
        return 200, {"items": items}, {}

    def _count_request(self):
        requests, world = self.task.requests, self.world
        requests[self.try_number] += 1
        for_each = requests[self.try_number] / len(self.task.intents)
        world.most_requests = max(world.most_requests, for_each)
        if for_each > MAX_REQUESTS:
            raise Violation(world.costs, f"{self.name} sends more than {MAX_REQUESTS} requests for each job")

    def count_submissions(self, files):
        posts, world = self.task.posts, self.world
        for file in files:
            posts[self.try_number, file] += 1
            world.most_posts = max(world.most_posts, posts[self.try_number, file])
            if posts[self.try_number, file] > MAX_POSTS:
                raise Violation(world.costs, f"{self.name} submits {file} more than {MAX_POSTS} times")

    def _sent(self, item, copy_only):
        place = item["destination"]["volume"], item["destination"]["location"]
        at, there = self.objects_seen.get(place, (0.0, False))
        snapshot, task, now = Snapshot(self.listed_at, at, there), self.task, self.world.platform.now
        sent = Sent(task.name, self.try_number, item["source"]["file"], copy_only, snapshot, item, process=self, at=now)
        sent.by_the_dead = task.process is not self
        return sent


def _shown(query):
    return f" {query.get('state') or query.get('location')} {query.get('offset', '')}" if query else ""
