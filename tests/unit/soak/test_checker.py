"""The soak's checker, on histories made by hand: bad ones are rejected for the right reason, good ones accepted."""

import msgspec
import pytest

from tests.soak.checker import check, told
from tests.soak.history import Answer, Cancel, Entry, Fault, Gap, History, Line, Sight, Submit
from tests.unit.soak.histories import (
    DOOMED,
    FIRST,
    FROZEN,
    KILLED,
    ONE,
    PLAIN,
    REBORN,
    SNOOZED,
    STOPPED,
    TELLING,
    TRIED,
    TWO,
    UNRUN,
    WITHDRAWN,
    change,
    erase,
    good,
    job,
    late_feed,
    moment,
    renumbered,
    row_of,
    seen_of,
    timeline_of,
    write,
)


@pytest.fixture
def history():
    return good().history


def test_a_history_in_which_all_went_well_is_accepted(history):
    assert check(history).violations == []


def test_an_empty_history_is_accepted():
    assert check(History()).violations == []


# Bad histories


def a_row_is_gone(history):
    history.rows = [row for row in history.rows if row.id != job(WITHDRAWN)]


def a_row_is_in_both_tables(history):
    history.rows.append(msgspec.structs.replace(row_of(history, PLAIN), place="job"))


def a_job_that_nobody_asked_for(history):
    change(history, PLAIN, key="nobody's")
    history.submits = [submit for submit in history.submits if submit.key != f"key {PLAIN}"]


def a_job_never_ended(history):
    with timeline_of(history, WITHDRAWN) as timeline:
        timeline.pop()
    change(history, WITHDRAWN, place="job", state="scheduled")
    history.cancels.clear()


def a_lock_is_left(history):
    history.leftovers.append("advisory lock of pid 7")


def a_job_ended_twice(history):
    with timeline_of(history, PLAIN) as timeline:
        timeline.append(Entry(4, "completed", 4000))


def a_retry_by_hand_is_not_counted(history):
    change(history, DOOMED, generation=1)


def the_row_says_otherwise_than_its_last_event(history):
    with timeline_of(history, DOOMED) as timeline:
        timeline[-1] = Entry(6, "cancelled", 6000)


def an_event_is_missing(history):
    with timeline_of(history, TRIED) as timeline:
        del timeline[3]


def a_seq_is_given_twice(history):
    with timeline_of(history, WITHDRAWN) as timeline:
        timeline[1] = Entry(1, "cancelled", 2000)


def an_ended_job_was_taken_back(history):
    with timeline_of(history, PLAIN) as timeline:
        timeline[2:2] = [
            Entry(0, "completed", 2950),
            Entry(0, "available", 2960),
            Entry(0, "started", 2970, {"attempt": 2}),
        ]
        renumbered(timeline)
    change(history, PLAIN, fence=2, attempt=2)


def a_cancelled_job_was_tried_again(history):
    with timeline_of(history, STOPPED) as timeline:
        timeline[3:3] = [Entry(0, "retryable", 3500), Entry(0, "available", 3600)]
        renumbered(timeline)
    erase(history, STOPPED, 2, last=1)
    write(history, STOPPED, 2, ONE, (3.2, "raised"))


def a_snooze_was_charged(history):
    change(history, SNOOZED, attempt=2)


def a_lost_attempt_was_charged(history):
    with timeline_of(history, KILLED) as timeline:
        timeline[3] = Entry(4, "started", 65000, {"attempt": 2})
    change(history, KILLED, attempt=2)


def more_attempts_than_allowed(history):
    change(history, TRIED, max_attempts=1)


def a_fence_was_given_twice(history):
    change(history, TRIED, fence=1)


def a_crash_was_not_counted(history):
    change(history, KILLED, crashes=0, kind="plain")


def run_without_a_claim(history):
    write(history, WITHDRAWN, 9, ONE, (1.5, "start"), (1.6, "end"))


def a_claim_was_run_twice(history):
    write(history, PLAIN, 2, TWO, (2.95, "start"), (2.99, "end"))


def run_after_its_claim_was_over(history):
    write(history, UNRUN, 2, REBORN, (70, "start"), (70.1, "end"))


def run_by_a_process_and_in_no_table(history):
    history.lines.append(Line(job(99), 2, "start", moment(5), ONE))


def a_handler_that_never_ended(history):
    erase(history, PLAIN, 2)
    history.lines += [Line(job(PLAIN), 2, "start", moment(2.1), 999)]


def completed_by_nobody(history):
    erase(history, PLAIN, 2)


def completed_although_it_raised(history):
    erase(history, PLAIN, 2, last=1)
    write(history, PLAIN, 2, ONE, (2.9, "raised"))


def the_result_of_an_earlier_claim(history):
    change(history, KILLED, result={"seq": 2})


def a_kind_ended_as_it_cannot(history):
    change(history, DOOMED, reason="timeout")


def two_runs_at_a_time(history):
    erase(history, TRIED, 2, last=1)
    write(history, TRIED, 2, ONE, (5.5, "raised"))


def a_lost_process_went_on(history):
    erase(history, FROZEN, 2, last=1)
    write(history, FROZEN, 2, TWO, (120.01, "step"), (120.3, "step"), (120.4, "stopped"))


def a_fenced_process_stopped_too_late(history):
    history.faults[1] = Fault(name="black_hole", began_at=moment(100), ended_at=moment(120), replica=1, pid=TWO)
    erase(history, FROZEN, 2, last=1)
    write(history, FROZEN, 2, TWO, (115.3, "stopped"))


def one_key_made_two_jobs(history):
    change(history, SNOOZED, key=f"key {PLAIN}")
    history.submits = [submit for submit in history.submits if submit.key != f"key {SNOOZED}"]


def a_key_was_answered_with_two_jobs(history):
    history.submits[0].answers.append(Answer(moment(2), 202, 0.01, job(TRIED), "digest"))


def two_answers_differ(history):
    history.submits[0].answers.append(Answer(moment(2), 202, 0.01, job(PLAIN), "another digest"))


def answered_with_the_job_of_another_key(history):
    answer = Answer(moment(2), 202, 0.01, job(PLAIN), "digest")
    history.submits.append(Submit("key of another", "plain", moment(1), answers=[answer]))


def a_duplicate_of_nothing(history):
    answer = Answer(moment(2), 200, 0.01, job(PLAIN), "digest", duplicate=True)
    history.submits.append(Submit("key of another", "plain", moment(1), unique_key="one", answers=[answer]))


def run_after_it_was_cancelled(history):
    with timeline_of(history, WITHDRAWN) as timeline:
        timeline[1:1] = [Entry(0, "available", 1500), Entry(0, "started", 2500, {"attempt": 1})]
        timeline[-1] = Entry(0, "cancelled", 4000)
        renumbered(timeline)
    change(history, WITHDRAWN, fence=1, attempt=1)
    write(history, WITHDRAWN, 3, ONE, (2.6, "start"), (2.7, "stopped"))


def completed_although_it_was_cancelled(history):
    history.cancels.append(Cancel(job(PLAIN), moment(1.1), moment(1.2), 200, "cancelled"))
    change(history, PLAIN, kind="awaiting")


def discarded_although_its_cancel_was_taken(history):
    change(history, STOPPED, state="discarded", reason="attempts_exhausted", kind="doomed")
    with timeline_of(history, STOPPED) as timeline:
        timeline[-1] = Entry(4, "discarded", 4000)
        del timeline[2]
        renumbered(timeline)


def two_jobs_of_one_unique_key_at_a_time(history):
    erase(history, FIRST, 2, last=1)
    write(history, FIRST, 2, ONE, (21.5, "end"))
    with timeline_of(history, FIRST) as timeline:
        timeline[-1] = Entry(3, "completed", 21600)


def rescued_from_a_process_that_lives(history):
    history.faults = [fault for fault in history.faults if fault.name != "kill"]
    erase(history, KILLED, 2)
    erase(history, UNRUN, 2)


def run_again_although_only_another_process_was_lost(history):
    erase(history, KILLED, 2)
    write(history, KILLED, 2, REBORN, (48.1, "start"), (49.1, "stopped"))


def given_back_for_no_reason(history):
    with timeline_of(history, PLAIN) as timeline:
        timeline[1:1] = [Entry(0, "started", 1200, {"attempt": 1}), Entry(0, "interrupted", 1400)]
        renumbered(timeline)
    change(history, PLAIN, fence=2, result={"seq": 4})
    erase(history, PLAIN, 2)
    write(history, PLAIN, 4, ONE, (2.1, "start"), (2.9, "end"))


def one_event_was_not_seen(history):
    with seen_of(history, KILLED) as sights:
        del sights[2]


def the_first_events_were_not_seen(history):
    with seen_of(history, KILLED) as sights:
        del sights[:2]


def an_event_was_seen_twice(history):
    with seen_of(history, KILLED) as sights:
        sights.insert(2, sights[1])


def what_was_merged_came_once_more(history):
    with seen_of(history, TELLING) as sights:
        sights.insert(2, msgspec.structs.replace(sights[2], seq=3, merged_from=None))


def two_events_were_seen_in_the_wrong_order(history):
    with seen_of(history, TELLING) as sights:
        sights[3], sights[4] = sights[4], sights[3]


def the_end_was_not_seen(history):
    with seen_of(history, KILLED) as sights:
        del sights[-1]


def another_end_was_seen(history):
    with seen_of(history, KILLED) as sights:
        sights[-1] = msgspec.structs.replace(sights[-1], event="job.discarded")


def an_end_was_seen_that_was_none(history):
    with seen_of(history, KILLED) as sights:
        sights[2] = msgspec.structs.replace(sights[2], event="job.completed")
        del sights[3:]


def nothing_was_seen(history):
    with seen_of(history, KILLED) as sights:
        sights.clear()


def who_followed_a_job_was_refused(history):
    history.watched[0].errors.append("status 404")


def the_feed_missed_an_event(history):
    (feed,) = history.feeds
    feed.sights = [sight for sight in feed.sights if (sight.job_id, sight.seq) != (job(KILLED), 3)]


def the_feed_missed_what_a_handler_told(history):
    (feed,) = history.feeds
    feed.sights = [sight for sight in feed.sights if (sight.job_id, sight.seq) != (job(TELLING), 5)]


def the_gap_stands_for_another_time(history):
    history.feeds[0].gaps[:] = [Gap(moment(150), moment(151))]


def what_the_gap_stands_for_is_later_than_where_the_feed_was(history):
    late_feed(history, 400)
    the_feed_missed_an_event(history)


# What is found wrong with each: the invariant, and words of the reason.
BAD = {
    a_row_is_gone: {"I1": "nowhere to be found"},
    a_row_is_in_both_tables: {"I1": "2 rows", "I2": "completed in job", "I3": "1 ends", "I10": "one of 2"},
    a_job_that_nobody_asked_for: {"I1": "nobody asked for it"},
    a_job_never_ended: {"I2": "scheduled in job"},
    a_lock_is_left: {"I2": "advisory lock"},
    a_job_ended_twice: {"I3": "2 ends", "I5": "completed (seq 4) while it was completed"},
    a_retry_by_hand_is_not_counted: {"I3": "generation 1, and 1 retries"},
    the_row_says_otherwise_than_its_last_event: {"I3": "the row says discarded, its last event cancelled"},
    an_event_is_missing: {"I4": "seq is 6", "I5": "started (seq 5) while it was retryable"},
    a_seq_is_given_twice: {"I4": "[1, 1]"},
    an_ended_job_was_taken_back: {"I3": "2 ends", "I5": "available (seq 4) while it was completed", "I8": "nothing"},
    a_cancelled_job_was_tried_again: {"I5": "retryable (seq 4) while it was cancelling"},
    a_snooze_was_charged: {"I6": "attempt 2, and its claims come to 1"},
    a_lost_attempt_was_charged: {"I6": "is not attempt 1"},
    more_attempts_than_allowed: {"I6": "attempt 2 of 1"},
    a_fence_was_given_twice: {"I6": "its fence is 1 after 2 claims"},
    a_crash_was_not_counted: {"I6": "0 crashes"},
    run_without_a_claim: {"I7": "no claim"},
    a_claim_was_run_twice: {"I7": "2 executions"},
    run_after_its_claim_was_over: {"I7": "began after its claim was over", "I9": "went on", "I12": "for no reason"},
    run_by_a_process_and_in_no_table: {"I7": "nowhere"},
    a_handler_that_never_ended: {"I7": "never ended", "I8": "wrote start"},
    completed_by_nobody: {"I8": "wrote nothing"},
    completed_although_it_raised: {"I8": "wrote raised"},
    the_result_of_an_earlier_claim: {"I8": "its author said {'seq': 4}"},
    a_kind_ended_as_it_cannot: {"I8": "ended discarded timeout"},
    two_runs_at_a_time: {"I9": "by 0.400 s"},
    a_lost_process_went_on: {"I9": "went on for 5.300 s after it was rescued"},
    a_fenced_process_stopped_too_late: {"I9": "went on for 0.200 s after it was rescued"},
    one_key_made_two_jobs: {"I10": "one of 2 jobs"},
    a_key_was_answered_with_two_jobs: {"I10": "was answered with"},
    two_answers_differ: {"I10": "two different answers"},
    answered_with_the_job_of_another_key: {"I10": f"it is key {PLAIN}'s"},
    a_duplicate_of_nothing: {"I10": "said to be a duplicate under one"},
    run_after_it_was_cancelled: {"I11": "ran under claim 3"},
    completed_although_it_was_cancelled: {"I11": "it ended completed"},
    discarded_although_its_cancel_was_taken: {"I11": "it was discarded"},
    two_jobs_of_one_unique_key_at_a_time: {"I11": "unique key one at a time"},
    rescued_from_a_process_that_lives: {"I12": "rescued at seq 3 for no reason"},
    run_again_although_only_another_process_was_lost: {"I12": f"by the process {REBORN}"},
    given_back_for_no_reason: {"I12": "interrupted at seq 3 for no reason"},
    one_event_was_not_seen: {"I13": "saw [1, 2, 4, 5]"},
    the_first_events_were_not_seen: {"I13": "saw [3, 4, 5]"},
    an_event_was_seen_twice: {"I13": "saw [1, 2, 2, 3, 4, 5]"},
    what_was_merged_came_once_more: {"I13": "saw [1, 2, 3, 3, 4, 5, 6, 7]"},
    two_events_were_seen_in_the_wrong_order: {"I13": "saw [1, 2, 3, 4, 6, 5, 7]"},
    the_end_was_not_seen: {"I13": "never saw its end: [1, 2, 3, 4] of 5"},
    another_end_was_seen: {"I13": "seen as job.discarded, and it is job.completed"},
    an_end_was_seen_that_was_none: {"I13": "seen as job.completed, and it is job.rescued"},
    nothing_was_seen: {"I13": "never saw its end: []"},
    who_followed_a_job_was_refused: {"I13": "answered with status 404"},
    the_feed_missed_an_event: {"I13": "never brought seq [3] of 5"},
    the_feed_missed_what_a_handler_told: {"I13": "never brought seq [5] of 7"},
    the_gap_stands_for_another_time: {"I13": "never brought seq [1] of 6"},
    what_the_gap_stands_for_is_later_than_where_the_feed_was: {"I13": "never brought seq [3] of 5"},
}


@pytest.mark.parametrize(("spoil", "reasons"), BAD.items(), ids=[spoil.__name__ for spoil in BAD])
def test_a_bad_history_is_rejected_for_the_right_reason(history, spoil, reasons):
    spoil(history)
    found = check(history).violations
    assert {violation.invariant for violation in found} == set(reasons), found
    for invariant, words in reasons.items():
        whys = [violation.why for violation in found if violation.invariant == invariant]
        assert any(words in why for why in whys), whys


# Good ones that look bad


def test_who_is_behind_comes_to_a_gap_long_after_what_it_stands_for(history):
    late_feed(history, 400)
    assert check(history).violations == []


def test_what_is_frozen_between_two_awaits_may_end_its_step_when_it_goes_on(history):
    erase(history, FROZEN, 2, last=1)
    write(history, FROZEN, 2, TWO, (120.01, "step"), (120.02, "stopped"))
    assert check(history).violations == []


def test_a_claim_whose_reply_was_lost_is_given_back(history):
    given_back_for_no_reason(history)
    history.faults.append(Fault(name="lose_replies", began_at=moment(1), ended_at=moment(1.3), replica=0, pid=ONE))
    assert check(history).violations == []


def test_what_was_running_at_a_stop_may_run_again(history):
    erase(history, KILLED, 2)
    write(history, KILLED, 2, REBORN, (48.1, "start"), (49.1, "stopped"))
    history.faults.append(Fault(name="term", began_at=moment(48.5), ended_at=moment(50), replica=0, pid=REBORN))
    assert check(history).violations == []


def test_a_job_that_was_lost_three_times_may_be_condemned(history):
    with timeline_of(history, KILLED) as timeline:
        lost = [("rescued", {}), ("started", {"attempt": 1})] * 2
        timeline[2:] = [Entry(0, event, 51_000, fields) for event, fields in (*lost, ("discarded", {}))]
        renumbered(timeline)
    change(history, KILLED, state="discarded", reason="crashed", attempt=0, crashes=3, fence=3, result=None)
    erase(history, KILLED, 4)
    for sights in (history.feeds[0].sights, history.watched[1].sights):
        sights[:] = [sight for sight in sights if sight.job_id != job(KILLED)]
        sights += [
            Sight(moment(52), job(KILLED), entry.seq, f"job.{entry.event}")
            for entry in row_of(history, KILLED).timeline
        ]
    assert check(history).violations == []


def test_a_cancel_that_comes_too_late_changes_nothing(history):
    history.cancels.append(Cancel(job(PLAIN), moment(5), moment(5.1), 200, "completed"))
    assert check(history).violations == []


# What is told


def test_a_violation_is_told_with_the_jobs_timeline_its_ledger_and_what_the_logs_say_of_it(history):
    the_result_of_an_earlier_claim(history)
    text = "\n".join(told(check(history), {1: f"one line\nabout {job(KILLED)}\n"}))
    for fact in (
        f"I8 {job(KILLED)}",
        "rescued",
        "step of claim 2, pid 101",
        "end of claim 4",
        "log of replica 1: about",
    ):
        assert fact in text
    assert "one line" not in text


def test_of_many_violations_only_some_are_told(history):
    history.leftovers += [f"lock {number}" for number in range(20)]
    text = list(told(check(history), {}))
    assert text[-1] == "I2: 15 more"
    assert len(text) == 6
