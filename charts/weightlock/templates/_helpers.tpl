{{/* Labels of every object. Takes a dict of root and component. */}}
{{- define "weightlock.labels" -}}
{{ include "weightlock.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: weightlock
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* Labels that select the pods of a component. They never change. */}}
{{- define "weightlock.selector" -}}
app.kubernetes.io/name: weightlock
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The reference of an image. A tag and a digest that are both empty stop the rendering. */}}
{{- define "weightlock.image" -}}
{{- if .digest -}}
{{ printf "%s/%s@%s" .registry .repository .digest }}
{{- else -}}
{{ printf "%s/%s:%s" .registry .repository (required (printf "set a tag or a digest for the image %s/%s" .registry .repository) .tag) }}
{{- end }}
{{- end }}

{{/* Settings that the controller and the webhook share, so that they decide alike. */}}
{{- define "weightlock.settings" -}}
- --verifier-image={{ include "weightlock.image" .Values.verifier.image }}
- --gpu-pods-outside-environments={{ .Values.gpuPodsOutsideEnvironments }}
- --node-access={{ .Values.nodeAccess }}
{{- range .Values.nodeAgents }}
- --node-agent={{ .namespace }}/{{ .serviceAccount }}
{{- end }}
{{- range .Values.administrators.users }}
- {{ printf "--administrator-user=%s" . | quote }}
{{- end }}
{{- range .Values.administrators.groups }}
- {{ printf "--administrator-group=%s" . | quote }}
{{- end }}
- --restart-all-containers={{ .Values.restartAllContainers }}
- --admin-tier={{ .Values.adminTier }}
{{- range .Values.gpuResources }}
- --gpu-resource={{ . }}
{{- end }}
{{- range .Values.gpuRuntimeClasses }}
- --gpu-runtime-class={{ . }}
{{- end }}
- --log-format={{ .Values.logFormat }}
- --log={{ .Values.logLevel }}
{{- end }}

{{/* Where a pod may run, and how it behaves there. Takes a dict of root and component. */}}
{{- define "weightlock.scheduling" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
tolerations:
# Pods of environments wait for a webhook: the replicas of a dead node are made anew elsewhere after 30 s, not after 300.
- {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
- {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
{{- with .root.Values.tolerations }}
{{ toYaml . }}
{{- end }}
topologySpreadConstraints:
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "weightlock.selector" $ | nindent 6 }}
{{- end }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "weightlock.selector" . | nindent 12 }}
{{- end }}

{{/* A pod that needs nothing of its node. */}}
{{- define "weightlock.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "weightlock.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Who the process is, from the pod's own object. */}}
{{- define "weightlock.env" -}}
env:
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end }}

{{- define "weightlock.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: health}
  # A restart cures a process that hangs, not a node that is short of CPU: two minutes tell the one from the other.
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 2
  timeoutSeconds: 3
{{- end }}
