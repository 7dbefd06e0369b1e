-- One row per score (feedback, evaluation, annotation), with what its trace says about user, session and tags.
-- score_id: Langfuse's score id.
-- name: Name of the score.
-- data_type: NUMERIC, BOOLEAN, CATEGORICAL, TEXT, CORRECTION or what comes next.
-- value_num: Number, NULL unless finite; 1 or 0 for BOOLEAN; of a category only on the legacy read path.
-- value_bool: Value of a BOOLEAN score.
-- value_str: Category, text, or `True` / `False` of a BOOLEAN score.
-- subject_kind: trace, observation, session, experiment, or unknown.
-- trace_id: Trace of the subject; NULL for sessions and experiments.
-- observation_id: Observation of the subject.
-- session_id: Session of the subject.
-- experiment_id: Experiment (dataset run) of the subject.
-- source: API, EVAL, ANNOTATION.
-- comment: Comment.
-- metadata: Metadata as served.
-- author_user_id: Langfuse user who annotated.
-- config_id: Score config.
-- queue_id: Annotation queue.
-- environment: Langfuse environment; `default` when unset.
-- timestamp: Time of the score; decides the partition, never moves.
-- trace_name: Name of the trace, looked up within 30 days before the score.
-- trace_user_id: User of the trace.
-- trace_session_id: Session of the trace.
-- trace_release: Release of the trace.
-- trace_tags: Tags of the trace, sorted; empty without a trace.
-- trace_mixpanel_session_id: Metadata `$mixpanel_session_id` of the trace.
-- trace_posthog_session_id: Metadata `$posthog_session_id` of the trace.
-- created_at: First written at Langfuse.
-- updated_at: Last written at Langfuse.
SELECT
    s.score_id,
    s.name,
    s.data_type,
    s.value_num,
    s.value_bool,
    s.value_str,
    s.subject_kind,
    s.trace_id,
    s.observation_id,
    s.session_id,
    s.experiment_id,
    s.source,
    s.comment,
    s.metadata,
    s.author_user_id,
    s.config_id,
    s.queue_id,
    s.environment,
    s.timestamp,
    t.row.trace_name AS trace_name,
    t.row.user_id AS trace_user_id,
    t.row.session_id AS trace_session_id,
    t.row.release AS trace_release,
    coalesce(t.row.tags, []) AS trace_tags,
    t.row.mixpanel_session_id AS trace_mixpanel_session_id,
    t.row.posthog_session_id AS trace_posthog_session_id,
    s.created_at,
    s.updated_at,
    s.read_path,
    s.partition_hour
FROM staged_scores AS s
LEFT JOIN score_traces AS t USING (score_id, partition_hour)
