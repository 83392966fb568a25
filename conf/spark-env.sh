# Sourced by bash at every start of Spark: spark-submit, pyspark, spark-class, and a session made in plain Python.
# The Java that `make setup` chose wins over JAVA_HOME: that one may be of a version that Spark refuses.
# SPARK_LOCAL_IP is not set here: this file does not know the master, and a loopback address would cut off a cluster.
PNEUMOSPARK_JAVA=$(cd "$SPARK_HOME/../../../.." && pwd)/java    # SPARK_HOME is .venv/lib/python3.1x/site-packages/pyspark
if [ -x "$PNEUMOSPARK_JAVA/bin/java" ]; then
    JAVA_HOME=$PNEUMOSPARK_JAVA
elif [ -L "$PNEUMOSPARK_JAVA" ]; then
    echo "The Java that make setup found, $(readlink "$PNEUMOSPARK_JAVA"), is gone: rm ${PNEUMOSPARK_JAVA%/java}/.ready, then make setup" >&2
fi
unset PNEUMOSPARK_JAVA
# Warnings of Java itself ("CodeCache is full") to standard error, like those of Spark: Java's own default is standard output.
export SPARK_SUBMIT_OPTS="-XX:+DisplayVMOutputToStderr -Xlog:disable -Xlog:all=warning:stderr ${SPARK_SUBMIT_OPTS:-}"
# A progress bar where somebody looks: Spark would draw it into the log of a schedule, too.
if [ -t 2 ]; then
    SPARK_SUBMIT_OPTS="-Dspark.ui.showConsoleProgress=true $SPARK_SUBMIT_OPTS"
fi
