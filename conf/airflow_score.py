"""A DAG for Airflow 3 that scores each night; put it into Airflow's dags folder.

It needs apache-airflow-providers-apache-spark and a connection `spark_default`: Spark's master, local[*] or yarn, which
the job asks from this machine (client mode), where its settings lie. PNEUMOSPARK_HOME says where the checkout is.
"""

import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG

HOME = os.environ.get("PNEUMOSPARK_HOME", "/opt/pneumospark")
SPARK_HOME = next(map(str, Path(HOME).glob(".venv/lib/python3*/site-packages/pyspark")), "")

with DAG(
    dag_id="pneumospark_score",
    schedule="30 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,  # a run scores all that is not yet scored, so one makes up for missed nights
    max_active_runs=1,  # a second one would find the table locked
    default_args={"retries": 0, "execution_timeout": timedelta(hours=8)},
    tags=["pneumospark"],
):
    SparkSubmitOperator(
        task_id="score",
        conn_id="spark_default",
        spark_binary=f"{HOME}/.venv/bin/spark-submit",  # not that of another Spark on this machine
        # properties_file=f"{HOME}/conf/s3a.conf",  # for S3; with spark.jars.ivy, a folder that this user may write
        conf={"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"},  # see OPERATIONS.md, Sizing
        application=f"{HOME}/jobs/score.py",
        name="pneumospark score",
        application_args=["--config", os.environ.get("PNEUMOSPARK_CONFIG", "/etc/pneumospark/pipeline.toml")],
        # Airflow passes on the names of the Python that runs it, and of its Spark; the job has its own.
        env_vars={
            "PYSPARK_PYTHON": f"{HOME}/.venv/bin/python",
            "PYSPARK_DRIVER_PYTHON": f"{HOME}/.venv/bin/python",
            "SPARK_HOME": SPARK_HOME,  # an empty one would be taken for the root folder
        },
    )
