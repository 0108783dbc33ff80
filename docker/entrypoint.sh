#!/bin/sh
# The entry point of all images.
#
#   VERB ...              a verb of `hyperrec`
#   prefect|python ...    that program: what a Prefect worker starts flow runs with
#   executor              an executor of Spark on Kubernetes, whose driver gives it all by variables
#   healthy               whether the volumes can be written to
#   answers URL           whether an address answers
#
# A secret may come in a file that a variable ending in _FILE names: variables can be looked up in a
# container's description, files cannot.
set -eu

for name in PREFECT_API_AUTH_STRING PREFECT_SERVER_API_AUTH_STRING \
    PREFECT_SERVER_DATABASE_PASSWORD PREFECT_SERVER_DATABASE_CONNECTION_URL; do
    eval "file=\${${name}_FILE-}"
    if [ -n "$file" ]; then
        value=$(cat "$file")
        export "$name=$value"
        unset "${name}_FILE"
    fi
done

case "${1:-}" in
    prefect | python | hyperrec)
        exec "$@"
        ;;
    executor)
        jars=$(python -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent)')/jars
        # Options come one a variable, numbered: SPARK_JAVA_OPT_0, SPARK_JAVA_OPT_1 and so on.
        number=0
        set --
        while eval "option=\${SPARK_JAVA_OPT_$number-}" && [ -n "$option" ]; do
            set -- "$@" "$option"
            number=$((number + 1))
        done
        exec java "$@" \
            "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" \
            -cp "${SPARK_CONF_DIR:+$SPARK_CONF_DIR:}$jars/*" \
            org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
            --driver-url "$SPARK_DRIVER_URL" \
            --executor-id "$SPARK_EXECUTOR_ID" \
            --cores "$SPARK_EXECUTOR_CORES" \
            --app-id "$SPARK_APPLICATION_ID" \
            --hostname "$SPARK_EXECUTOR_POD_IP" \
            --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" \
            --podName "$SPARK_EXECUTOR_POD_NAME"
        ;;
    healthy)
        for folder in "$HYPERREC_HOME" "$TMPDIR"; do
            if ! [ -w "$folder" ]; then
                echo "$folder cannot be written to: mount a volume there." >&2
                exit 1
            fi
        done
        ;;
    answers)
        exec python -c 'import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=5)' "$2"
        ;;
    *)
        exec hyperrec "$@"
        ;;
esac
