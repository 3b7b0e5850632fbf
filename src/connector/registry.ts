import workflowAppLogs from '../../connectors/workflow_app_logs.ts';
import workflowNodeExecutionOffload from '../../connectors/workflow_node_execution_offload.ts';
import workflowNodeExecutions from '../../connectors/workflow_node_executions.ts';
import workflowRuns from '../../connectors/workflow_runs.ts';
import type { TableName } from '../core/contracts.ts';
import type { Connector } from './definition.ts';

export const CONNECTORS: Readonly<Record<TableName, Connector>> = {
  workflow_runs: workflowRuns,
  workflow_app_logs: workflowAppLogs,
  workflow_node_executions: workflowNodeExecutions,
  workflow_node_execution_offload: workflowNodeExecutionOffload,
};

/** The connector behind a `--data-type`, or undefined. */
export function connectorOfDataType(dataType: string): Connector | undefined {
  return Object.values(CONNECTORS).find((connector) => connector.dataType === dataType);
}
