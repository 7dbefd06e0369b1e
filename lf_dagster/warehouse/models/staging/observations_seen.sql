-- Rows of the touched traces: the run's own and those that the warehouse holds for neighbouring hours.
SELECT *, order_key(start_time, observation_id) AS position FROM staged_observations WHERE trace_id <> ''
UNION ALL BY NAME
SELECT
    * EXCLUDE (mark),
    order_key(start_time, observation_id) AS position,
    writer_of(mark, writer_keys(metadata, mark), name, type) AS own_writer,
    mark.langgraph_node AS langgraph_node,
    metadata_agent(metadata) AS own_agent
FROM (SELECT *, writer_marks(metadata) AS mark FROM neighbour_observations)
