-- Clients of Optuna's protocol have no lease: a trial that they hold, which no request of ours started, is given up on when
-- they are gone and nothing more is written to it.

CREATE INDEX trial_unwatched ON trial (id) WHERE state = 'running' AND job_id IS NULL AND started_by IS NULL;
