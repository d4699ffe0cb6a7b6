# The replication library (or the core below it, ../core) with one guard taken away, and the test that must notice. A
# mutant is a copy of one source in which FROM reads TO; the linker takes it instead of the library's own. A FROM that
# is not found ends the configuration: change this table together with the guard.
set(REPLICATION_DIR ${CMAKE_SOURCE_DIR}/broker/replication)

function(mutant name program test file from to)
  set(copy ${CMAKE_CURRENT_BINARY_DIR}/mutants/${name}.c)
  file(READ ${REPLICATION_DIR}/${file} text)
  string(FIND "${text}" "${from}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "mutant ${name}: \"${from}\" is not in ${file} any more")
  endif()
  string(REPLACE "${from}" "${to}" text "${text}")
  file(WRITE ${copy}.new "${text}")
  configure_file(${copy}.new ${copy} COPYONLY) # only touched when it changes
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${REPLICATION_DIR}/${file})
  set(target replication_mutant_${name})
  add_executable(${target} ${CMAKE_CURRENT_SOURCE_DIR}/unit/replication/${program}.c ${copy})
  set_source_files_properties(${copy} PROPERTIES COMPILE_OPTIONS "-Wno-unused;-Wno-unused-parameter")
  target_link_libraries(${target} PRIVATE strict broker_replication ${CMOCKA_LIBRARY})
  wrap_functions(${target} ${program})
  add_test(NAME ${target} COMMAND sh -c "\"$0\" $1 || true" $<TARGET_FILE:${target}> ${test})
  # cmocka says which test failed, and catches signals; a sanitizer or the allocator end the program themselves.
  set_tests_properties(${target} PROPERTIES TIMEOUT 120
    PASS_REGULAR_EXPRESSION "FAILED  . ${test}|AddressSanitizer: |double free|assertion failed")
endfunction()

# What a program wraps: see fixed_random.h, time_test.c and level_test.c.
function(wrap_functions target program)
  if(program STREQUAL time_test)
    target_link_options(${target} PRIVATE -Wl,--wrap=clock_now_ms,--wrap=clock_steady_ms)
  elseif(program MATCHES "^guard(_flow)?_test$")
    target_link_options(${target} PRIVATE -Wl,--wrap=clock_random,--wrap=clock_steady_ms)
  elseif(program STREQUAL level_test)
    target_link_options(${target} PRIVATE -Wl,--wrap=feature_level_min)
  endif()
endfunction()
foreach(program time_test guard_test guard_flow_test level_test)
  wrap_functions(replication_${program} ${program})
endforeach()

if(ONLY_THREADS) # they say nothing about threads
  return()
endif()
mutant(g1_quorum guard_flow_test entries_are_committed_though_more_is_stored guard.c
       "raft->last_stored = countable(raft, quorum(raft, message->server_id, match));" "")
mutant(g2_older_terms guard_test an_entry_of_an_older_term_is_not_counted guard.c
       "guard_term(raft, index) == raft->current_term ? index : raft->commit_index" "index")
mutant(g3_unchecked guard_test only_what_this_leader_has_is_acknowledged raft_net.c
       "guard_acknowledged(shard, result->last_log_index)" "result->last_log_index")
mutant(g3_old_write guard_test a_write_for_an_old_leader_is_not_reported_to_a_new_one guard.c
       "uint64_t verified = g->verified_term == shard->raft.current_term ? g->verified_index : 0"
       "uint64_t verified = UINT64_MAX")
mutant(g4_follower guard_test unchecked_entries_are_not_committed raft_net.c
       ".leader_commit = wire->c < last ? wire->c : last" ".leader_commit = wire->c")
mutant(g5_votes guard_test votes_are_asked_for_only_with_what_is_on_disk raft_net.c
       "log_durable_index(shard->log) < guard_last_index(&shard->raft)" "false")
mutant(g7_clip guard_flow_test appends_are_clipped raft_net.c
       "if (n > 0 && bytes > bytes_max)" "if (false)")
mutant(g7_next guard_flow_test appends_follow_each_other_without_a_gap guard.c
       "p->next_index = link->next_index;" "")
mutant(g7_probe guard_flow_test a_follower_that_answers_a_probe_gets_what_is_new_at_once guard.c
       "p->recent_recv)" "false)")
mutant(g8_unreachable guard_flow_test nothing_is_gathered_for_a_follower_that_cannot_be_reached guard.c
       "p->last_send = uv_now(shard->options.loop);" "")
mutant(g9_second_vote guard_test nobody_votes_twice_in_a_term guard.c "if (!second)" "")
mutant(promise_end guard_test a_replica_begun_anew_votes_as_the_one_before guard.c
       "if (breaks_promise(shard, vote))" "if (false)")
mutant(promise_vote guard_test a_replica_begun_anew_votes_as_the_one_before promise.c
       "meta.sequence = 0;" "meta.sequence = meta.vote = 0;")
mutant(promise_before guard_test a_replica_begun_anew_votes_as_the_one_before promise.c
       "promise_allows(&before, end) ? end : &before" "end")
mutant(promise_stands guard_test a_replica_begun_anew_does_not_stand_before_it_has_as_much guard.c
       "    if (!may_stand(shard))
        shard->raft.election_timer_start = uv_now(shard->options.loop);" "")
mutant(promise_told guard_test a_replica_begun_anew_does_not_stand_before_it_has_as_much guard.c
       "message->type != RAFT_IO_TIMEOUT_NOW || may_stand(shard)" "true")
mutant(promise_leads guard_test a_replica_begun_anew_does_not_lead_as_it_did_once guard.c
       "shard->guard.held_back = alone && !may_stand(shard);" "")
mutant(promise_alone guard_test a_replica_begun_anew_takes_nothing_for_committed shard.c
       "shard->disk.begun_anew = shard->promised.index > 0;" "")
mutant(g10_rollback guard_test a_change_of_members_is_taken_back_after_a_snapshot guard.c
       "roll_back(shard, append)" "(void)roll_back")
mutant(g10_too_far guard_test a_change_that_is_taken_back_leaves_the_one_before_it guard.c
       "raft->configuration_uncommitted_index < conflict ||"
       "guard_entry(raft, raft->configuration_index) != NULL ||")
mutant(g10_snapshot guard_test a_snapshot_has_no_members_that_are_not_committed guard.c
       "    keep_committed(shard);
    if (g->configuration.length == 0" "    buffer_clear(&g->configuration);
    configuration_encode(&g->configuration, &raft->configuration);
    if (g->configuration.length == 0")
mutant(g10_between guard_test a_change_that_comes_with_the_next_one_is_kept guard.c
       "(void)keep_from_entry(shard, raft->configuration_index);" "(void)0;")
mutant(g19_adopted guard_test a_change_that_is_stored_during_an_election_counts guard.c
       "adopt_members(shard, first_index, n);" "(void)adopt_members;")
mutant(g11_silent guard_test a_silent_leader_is_forgotten_in_time guard.c
       "silent_ms >= raft->election_timeout" "false")
mutant(g11_gone guard_test a_leader_whose_connection_ends_is_gone guard.c
       "if (raft->state != RAFT_FOLLOWER)" "if (true)")
mutant(g12_newer_offer guard_flow_test an_older_snapshot_will_do guard.c
       "guard_term(raft, p->match_index) != 0" "false")
mutant(g6_in_between guard_catch_up_test a_candidate_takes_over_a_snapshot raft_disk.c
       "        cb(req, 0);
        return 0;" "        disk->put_request = req;
        return 0;")
mutant(g12_change guard_catch_up_test an_installed_snapshot_ends_a_change_of_members catch_up.c
       "raft->configuration_uncommitted_index = 0; /* G12 */" "")
mutant(g13_covered guard_test entries_that_a_snapshot_covers_are_left_out raft_net.c
       "skip_known(&shard->raft, &message->append_entries);" "")
mutant(g14_started guard_test a_change_that_a_start_found_is_taken_back guard.c
       "raft->configuration_uncommitted_index = last;" "")
mutant(g16_own_term guard_catch_up_test an_only_voter_leads_in_a_term_of_its_own guard.c
       "    else if (alone)
        new_term(shard);" "")
mutant(g17_pre_vote guard_test a_refused_pre_vote_tells_the_term raft_net.c
       "pre_vote && !granted && wire->b > wire->term ? wire->b : wire->term" "wire->term")
mutant(lost_is_not_done guard_flow_test an_entry_of_unknown_fate_is_not_repeated batch.c
       "(shard->stage == STAGE_CLOSING || !shard_in_company(shard)))
        fail_calls(shard, entry, STATUS_CLOSED)" "true)
        retry_calls(shard, entry)")
mutant(unsent_answer guard_test an_answer_that_cannot_be_sent_does_no_harm raft_net.c
       "return dropped(request, cb)" "return RAFT_NOCONNECTION")
mutant(r2_window forward_test a_number_is_taken_once_in_a_term forward.c "return fresh;" "return true;")
mutant(r2_twice forward_test doubled_calls_are_taken_once forward.c "return fresh;" "return true;")
mutant(r6_goes_on time_test time_goes_on_when_another_leads time.c
       "if (!t->known)
        t->offset_ms = (int64_t)((wall_ms" "t->offset_ms = (int64_t)((wall_ms")
mutant(r6_slew time_test a_leader_slews time.c
       "wanted > step_max ? step_max : wanted < -step_max ? -step_max : wanted" "wanted")
mutant(r6_file time_test time_outlives_the_process time.c "time_record_save(shard->options.dir, &record);" "")
mutant(r6_latest time_test the_clock_of_the_latest_leader_counts time.c
       "bool better = !t->known || term > t->term ||" "bool better = !t->known ||")
mutant(r6_any time_test the_clock_of_the_latest_leader_counts time.c
       "!t->known || term > t->term || (term == t->term && told > t->offset_ms)"
       "!t->known || told > t->offset_ms")
mutant(sync_unconfirmed sync_test a_deposed_leader_answers_no_question sync.c
       "if (wire->term == shard->raft.current_term && wire->a == shard->sync.round)
        link->confirmed = wire->a;" "link->confirmed = shard->sync.round;")
mutant(sync_early sync_test a_question_is_not_answered_by_the_round_before_it sync.c
       "if (!s->under_way && begin_round(shard)" "if (begin_round(shard)")
mutant(r7_lag guard_flow_test a_node_that_lags_is_not_ready raft_net.c
       "shard->forward.known_commit = wire->c;" "shard->forward.known_commit = wire->c < last ? wire->c : last;")
mutant(r10_back order_test the_calls_of_a_leader_that_is_deposed_keep_their_order batch.c
       "calls->first->order < rest.first->order" "false")
mutant(r10_leads order_test calls_keep_their_order_when_the_leader_is_cut_off batch.c
       "bool in_doubt = batch_in_doubt(shard)" "bool in_doubt = false")
mutant(r10_follows order_test calls_keep_their_order_when_the_leader_is_cut_off forward.c
       "&&
           !batch_in_doubt(shard);" ";")
mutant(r10_room order_test nothing_is_lost_for_want_of_room forward.c
       "&& links_fits(shard, leader, most)" "")
mutant(r10_lost order_test nothing_is_lost_for_want_of_room link.c "out->link->lost = true;" "")
mutant(r10_refused order_test what_was_refused_does_not_come_later forward.c
       "if (sent->seq < shard->forward.returned_seq)" "if (false)")
mutant(r10_at_once forward_test a_leader_takes_calls_at_once forward.c
       "    lead_watch(shard); /* else" "    /* else")
mutant(refused_once forward_test a_refusal_is_said_again forward.c
       "if (was_refused(link, item->seq))" "if (false)")
mutant(refused_forever forward_test a_refusal_is_said_again forward.c
       "        t->refused[slot / 64] &= ~(UINT64_C(1) << slot % 64);" "")
mutant(refused_in_vain forward_test a_refusal_waits_for_room forward.c
       "(link->up && !links_fits(shard, link, verdicts->length))" "false")
mutant(barrier_expires forward_test a_leader_begins_however_late batch.c
       "    call->deadline_ms = UINT64_MAX;" "")
mutant(sync_backwards sync_test questions_are_answered_as_they_came sync.c
       "    add(shard, sync);
    shard_wake(shard);" "    sync->next = shard->sync.list, shard->sync.list = sync;
    if (sync->next == NULL)
        shard->sync.last = sync;
    shard_wake(shard);")
mutant(sync_once sync_test a_question_is_asked_again sync.c
       "if (number == 0 && (!open || now_ms - shard->sync.asked_ms < LOST_MS))" "if (number == 0)")
mutant(r3_taken_later forward_test a_call_that_was_refused_is_not_taken_later forward.c
       "        (void)take(shard, link, wire->a, seq);
        note_refused(shard, &origin);" "")
mutant(r3_refused_later forward_test a_call_that_was_taken_is_not_refused_later forward.c
       "else if (never_taken(shard, link, wire, item.seq))" "else")
mutant(bury_wake bury_alone_test a_large_queue_goes_though_nothing_happens bury.c
       "shard_wake(shard);" "(void)0;")
mutant(promotion_lost cluster_test a_promotion_ends_with_the_leadership members.c
       "{RAFT_LEADERSHIPLOST, STATUS_NOT_LEADER}" "{RAFT_LEADERSHIPLOST, STATUS_OK}")
mutant(plots_ids plots_child_test what_the_child_writes_is_the_whole_state ../core/snapshot_queue.c
       "encode_dedup(stream->out, &dedup);"
       "encode_dedup(stream->out, &dedup);
        struct hashes_walk at = hashes_begin(&queue->dedups.places, (uint32_t)dedup.seq << 12);
        uint32_t place;
        (void)hashes_next(&at, &place);")
mutant(plots_messages plots_child_test what_the_child_writes_is_the_whole_state ../core/snapshot_message.c
       "encode_message(core, message_at(&core->messages, index), at);"
       "encode_message(core, message_at(&core->messages, index), at);
        (void)messages_find(&core->messages, queue->slot, message_at(&core->messages, index)->seq);")
mutant(level_ahead level_test a_level_that_rose_in_the_last_entry_counts level.c
       "|| level_ahead(shard) >= least" "")
mutant(level_old level_test a_state_of_a_level_that_is_too_old_is_refused level.c
       "shard->level >= least ||" "true ||")
