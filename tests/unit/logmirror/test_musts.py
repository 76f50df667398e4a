"""Each MUST of C2SP tlog-mirror (main of July 2026) that is a mirror's, and the test that holds us to it.

Of tlog-witness's `add-checkpoint` the mirror's is the same decision as the witness's (`tests/unit/witness`). What is
the client's has a table of its own. Where we differ from a SHOULD, it says why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

MIRROR: Final = {
    "the checkpoint served includes a cosignature from the mirror": "test_a_log_comes_from_beginning_to_end",
    "add-checkpoint is handled identically to that of a witness": "test_answers_are_those_of_a_witness",
    "the log's signature is retained in the pending checkpoint": "test_attack_forged_line_of_our_own_is_not_kept",
    "the mirror cosigner does not sign in add-checkpoint": "test_the_mirrors_key_signs_no_pending_checkpoint",
    "a witness service is a distinct cosigner, with a distinct name": "test_attack_a_key_or_name_with_two_roles",
    "and so it is where the mirror's key came first": "test_attack_the_log_mirror_s_key_signs_for_a_witness",
    "monitoring prefixes of mirror and witness are distinct": "test_three_roles_with_keys_of_their_own_share_a_storage",
    "Content-Type of add-entries is application/octet-stream": "test_requests_over_loopback",
    "upload_end is the pending tree size or that of one before": "test_which_uploads_are_taken",
    "upload_start is at most upload_end": "test_where_no_package_is_whole_it_is_a_400",
    "zero or more packages of the canonical sequence, in order": "test_packages_lie_in_one_bundle_each",
    "num_hashes is at most 63": "test_limits",
    "Content-Encoding: gzip is supported": "test_gzip_is_unpacked_in_any_pieces",
    "404 for a log that is not known": "test_before_any_checkpoint_there_is_nothing_to_go_on_from",
    "422 where no pending checkpoint was ever received": "test_before_any_checkpoint_there_is_nothing_to_go_on_from",
    "409 where upload_end is of no known checkpoint": "test_which_uploads_are_taken",
    "409 where upload_end is below the mirror checkpoint": "test_attack_a_ticket_does_not_rewind",
    "409 where upload_start is above the next entry": "test_which_uploads_are_taken",
    "409 where excess_entries is too large": "test_upload_start_within_a_window",
    "entries are authenticated by the subtree consistency proof": "test_packages_are_proven",
    "422 where that fails, and processing ends": "test_attack_forged_entries_are_not_stored",
    "entries that are written already are skipped": "test_interleaved_uploads",
    "202 with the advanced next entry for a prefix": "test_a_prefix_of_the_packages_is_kept",
    "and for an interrupted request": "test_a_client_that_leaves_has_brought_what_was_whole",
    "400 where no package was saved before the body ended": "test_where_no_package_is_whole_it_is_a_400",
    "409 and 202 are text/x.tlog.mirror-info of three lines": "test_mirror_info",
    "what is derived from a ticket is authenticated": "test_attack_tickets_that_are_not_ours",
    "409 where upload_end is too small by the time of the commit": "test_commit_race_does_not_rewind",
    "200 has note signature lines, as a witness's": "test_a_log_comes_from_beginning_to_end",
    "they are cosignatures of the mirror's keys on the checkpoint": "test_other_extension_lines_are_cosigned",
    "the new checkpoint is persisted before the response": "test_log_mirrors_are_killed_anywhere",
    "an interrupted stream leaves all in order": "test_copies_and_cosignatures_are_right_in_every_history",
    "the checks use some valid copy of the state": "test_a_pending_checkpoint_that_moves_meanwhile_changes_nothing",
    "entries that somebody else added meanwhile are no error": "test_an_upload_that_was_overtaken_as_a_whole",
    "the mirror checkpoint is not rewound": "test_commit_race_does_not_rewind",
    "nothing is signed before all entries are durable": "test_kept_progress_is_never_ahead_of_the_objects",
    "the next entry is the first that is missing": "test_an_upload_that_was_interrupted_is_told_how_far_others_are",
    "without a retention policy the minimum index is 0": "test_restart_over_tiles_of_higher_levels",
}

CLIENT: Final = {
    "cosignatures of unknown keys are ignored": "test_attack_a_mirror_that_lies",
    "at most 32 packages in a request (SHOULD)": "test_a_large_log_has_tiles_of_three_levels",
    "an interrupted stream is gone on with": "test_a_mirror_that_others_fed_is_brought_up",
}

SHOULDS: Final = {
    "errors of the head are answered without the whole body": "test_what_is_wrong_with_the_head_is_said_at_once",
    "Accept-Encoding includes gzip": "test_requests_over_loopback",
    "several clients upload at once, and none stops the others": "test_attack_slow_clients_hold_all_places",
    "several past pending checkpoints are accepted": "test_a_last_pending_checkpoint_is_remembered_without_a_ticket",
    # Not where the next entry is past it: the client would be told to begin above its end.
    "mirror-info has upload_end where valid": "test_a_client_that_was_overtaken_is_sent_to_the_current_checkpoint",
}


@pytest.mark.parametrize(("sentence", "name"), [item for table in (MIRROR, CLIENT, SHOULDS) for item in table.items()])
def test_each_sentence_has_its_test(sentence: str, name: str) -> None:
    """A test of that name is somewhere."""
    here = Path(__file__)
    others = [path for level in (1, 2) for path in here.parents[level].glob("*/test_logmirror*.py")]
    files = [*here.parent.glob("test_*.py"), *others]
    assert any(f"def {name}(" in each.read_text() for each in files), sentence
